// Package siem reads alerts over the legacy SIEM API of Defender for Endpoint, the alert exporter
// (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem): how a time is asked for, and how its rows are decoded.
//
// Microsoft calls the rows detections. An alert is made of one or more of them, and each is an Alert of its own here. They never
// change once they were published. The API has neither pages nor versions, and may be switched off without notice: that it
// answers with nothing proves nothing.
package siem
