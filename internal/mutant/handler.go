package mutant

// ofHandler are the faults in the handlers for webhooks and programs.
var ofHandler = []Mutant{
	{
		Name:    "start-unlooked",
		Breaks:  "a program is started without a last look at the clock (Linux)",
		Test:    "TestForkLooksAtTheClockRightBeforeExec",
		Package: "./handler",
		Changes: []Change{{
			File: "handler/fork_linux.go",
			Old:  `>= what.until {`,
			New:  `>= 1<<62 {`,
		}},
	},
	{
		Name:    "reuse-call-number",
		Breaks:  "all requests of a webhook have the same number",
		Test:    "TestWebhookNumbersEachRequest",
		Package: "./handler",
		Changes: []Change{{
			File: "handler/webhook_request.go",
			Old:  `number := w.calls.Add(1)`,
			New:  `number := int64(1)`,
		}},
	},
}
