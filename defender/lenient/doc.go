// Package lenient reads JSON that need not be quite as documented into protobuf messages, by tables of properties.
//
// One bad value never costs the message: what cannot be read leaves its field empty and is told as an oddity. Keys match
// exactly, unless the document is told to ignore their case, the last of two equal keys wins, null and the empty string are the
// same as nothing, numbers may be strings and strings numbers, and times need no zone. The document is read once, into a flat
// list of nodes that [Document.ContentHash] and the tables share.
package lenient
