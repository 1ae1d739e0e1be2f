package observing_test

// advice says of each metric what to do when it is odd.
var advice = map[string]string{
	"defender_integration_build_info":           "Two versions at once are fine while replicas are replaced, and no longer.",
	"defender_integration_budget_calls_allowed": "It is what `--budget` says. A limit that is missing is one that no integration here spends.",
	"defender_integration_budget_calls_left": "Near 0 for long: reads are put off and the state is throttled. Poll less often, ask for fewer closing reads at different times, " +
		"or raise `--budget` towards what Microsoft takes.",
	"defender_integration_call_failures_total": "By `reason`: caller_not_allowed and caller_unauthenticated are for the policy and the certificates, store_unavailable for the disk, " +
		"internal is a defect whose cause is in the log under the request id.",
	"defender_integration_calls_total": "It grows with streams only through closing reads and look-ups, which are shared. Faster than the budget it cannot grow.",
	"defender_integration_client_certificate_expiry_timestamp_seconds": "Less than two weeks ahead: upload a new certificate in Entra, and give it here (UpdateIntegration, or the file). " +
		"After its end no token is given, and nothing is read.",
	"defender_integration_closings_waiting_streams":                "It grows with bounded streams that are open. High while `failures_total` grows: verdicts wait, at most for `--closing-limit`.",
	"defender_integration_configuration_problems":                  "More than 0: files under `--integrations` cannot be applied, and what was applied before stays. The log names them; `validate` tells the same.",
	"defender_integration_configuration_applied_timestamp_seconds": "Older than the last change of the files under `--integrations`, with problems above 0: see there.",
	"defender_integration_connections_unread_total":                "Callers hold streams open and do not read them. Look for the caller in the log, and at what it does between two events.",
	"defender_integration_covered_since_timestamp_seconds":         "It jumps forward when Microsoft failed on alerts and they were passed over: verdicts about windows before it are CANNOT_JUDGE.",
	"defender_integration_delivery_seconds":                        "More than a second: the machine has too little processor time for its streams, or callers read slowly (`outbox_blocked_streams`).",
	"defender_integration_devices_looked_up_timestamp_seconds": "Older than `--device-interval` allows while streams ask for Actors: see `failures_total{operation=\"devices\"}`. " +
		"Verdicts without fresh devices are CANNOT_JUDGE where they would be MISSED.",
	"defender_integration_failures_total":                        "By `reason`; GetIntegration tells the newest with its remedy, and TestConnectivity finds the link that does not hold.",
	"defender_integration_journal_bytes":                         "Near `journal_retention_bytes` the oldest entries are dropped before their age: resume tokens live shorter. Raise `--retention-bytes`.",
	"defender_integration_journal_entries":                       "It falls when the journal is trimmed, which is as it should be. See `journal_bytes`.",
	"defender_integration_journal_first_entry_timestamp_seconds": "Much younger than `journal_retention_seconds` once the service has run for that long: the journal is trimmed for its size. See `journal_bytes`.",
	"defender_integration_journal_retention_bytes":               "It is what `--retention-bytes` says.",
	"defender_integration_journal_retention_seconds":             "It is what `--retention-age` says.",
	"defender_integration_journals_replaced_total":               "Any: the data was damaged or lost. Streams were told, tokens of before are refused, and what Microsoft still has is read again. Look at the disk and at what else writes there.",
	"defender_integration_last_good_read_timestamp_seconds":      "Older than some polls: see `state`, then GetIntegration for the problem and its remedy.",
	"defender_integration_next_poll_timestamp_seconds":           "Minutes in the past: a read hangs (it is given up after ten minutes), or the process has no processor time. Take a profile of the goroutines (`--admin-address`).",
	"defender_integration_oddities_total":                        "New kinds after a quiet time: Microsoft changed what it serves. Nothing is lost; report the kind with the alert's raw bytes.",
	"defender_integration_outbox_blocked_streams":                "Callers read too slowly. After `--unread-limit` their streams are ended, and resume.",
	"defender_integration_outbox_bytes":                          "As `outbox_blocked_streams`. It is bounded by some 64 KiB for each stream.",
	"defender_integration_pair_through_timestamp_seconds": "Of depth poll older than some polls: nothing new is seen; see `state`. Of depth reread older than an hour: deeper reads are left out, mostly for want of budget. " +
		"Of depth closing: as old as the last bounded stream.",
	"defender_integration_panics_total":                  "Any is a defect: report it with the line of the log and its stack.",
	"defender_integration_pending_entries":               "It rises and falls with each read. High for minutes: the disk is slow.",
	"defender_integration_read_duration_seconds":         "Longer than the time between two polls: Microsoft is slow, or a proxy is. Deeper reads take longer than polls.",
	"defender_integration_ready":                         "0: the store does not answer or takes nothing, most often for want of room; the log has the cause (\"not ready\"). It is ready again by itself when there is room.",
	"defender_integration_revision_lateness_seconds":     "How late Microsoft shows alerts: `--poll-overlap` and `--reread` must reach over it, and the `wait` of bounded streams too.",
	"defender_integration_revisions_total":               "None for long where there used to be some: compare with the portal, then look at `state` and at the permissions (TestConnectivity).",
	"defender_integration_state":                         "failing or throttled for longer than some minutes, or retired: GetIntegration tells the problem and its remedy.",
	"defender_integration_state_since_timestamp_seconds": "It is for how long `state` has been so.",
	"defender_integration_store_bytes":                   "Near `store_limit_bytes`: keep less (`--retention-age`, `--retention-bytes`), or give more room.",
	"defender_integration_store_disk_free_bytes":         "Below `store_disk_reserved_bytes` nothing is taken any more. Make room: collecting goes on by itself.",
	"defender_integration_store_disk_reserved_bytes":     "It does not change.",
	"defender_integration_store_limit_bytes":             "It is what `--data-max-bytes` says, or what the disk had at the start.",
	"defender_integration_store_restarts_total":          "Any: the disk was full or did not answer. See `store_disk_free_bytes` and the system's log.",
	"defender_integration_refused_total": "A caller takes more than --max-streams-per-caller, --calls-per-second-per-caller or --max-request-bytes lets it (`scope` caller), or all together do (server). " +
		"See docs/limits.md; it comes again when it is told to.",
	"defender_integration_streams_open":                   "Near `--max-streams`: further streams are refused. It counts reflection's too, unlike `streams`.",
	"defender_integration_stream_events_total":            "`gap`: streams were overtaken by trimming, or begin before what is kept. None of `alert` for long: as `revisions_total`.",
	"defender_integration_streams":                        "catching_up for long: tokens are old, or the machine is slow. closing for long: no closing read succeeds. Fewer than the Director believes: it does not reconnect.",
	"defender_integration_streams_unread_total":           "As `connections_unread_total`.",
	"defender_integration_telemetry_questions_waiting":    "High for minutes: see `failures_total{operation=\"telemetry\"}`. Verdicts wait for `--hunting-limit` at most.",
	"defender_integration_token_expiry_timestamp_seconds": "In the past: Entra gives no new token; the log has why, and TestConnectivity tells the remedy.",
	"defender_integration_verdicts_total":                 "cannot_judge more than now and then: the events tell why for each Actor, mostly devices that are not known or not onboarded, or reads that fail.",
}
