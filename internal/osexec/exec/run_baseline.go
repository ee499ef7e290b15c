//go:build baseline

package exec

// Run is os/exec's.
func (c *Cmd) Run() error { return c.std().Run() }

// Start is os/exec's.
func (c *Cmd) Start() error { return c.std().Start() }

// Wait is os/exec's.
func (c *Cmd) Wait() error { return c.std().Wait() }

// Output is os/exec's.
func (c *Cmd) Output() ([]byte, error) { return c.std().Output() }

// CombinedOutput is os/exec's.
func (c *Cmd) CombinedOutput() ([]byte, error) { return c.std().CombinedOutput() }
