package allow

import "os/exec"

func allowed(cmd *exec.Cmd) {
	_ = cmd.Run() //safeexec:allow it is our own and ends
	//safeexec:allow a daemon, which
	// is to outlive us
	_ = cmd.Start()
	_ = exec.Command("a",
		"b").Run() //safeexec:allow it is our own
	_ = cmd.Run() // want `without a bound`
	_ = cmd.Run() // safeexec:allow with a blank it is no directive // want `without a bound`
	_ = cmd.Run() //safeexec:allowed is another word // want `without a bound`
}

func unreasonable(cmd *exec.Cmd) {
	/* want `without a bound` `needs a reason` */ _ = cmd.Run() //safeexec:allow
}

/* want `allows nothing here` */ //safeexec:allow nothing is below

func unused() {}
