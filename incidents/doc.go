// Package incidents is a history of what goes wrong: one test for each incident that safeexec exists for, and for each
// of its own defects that its tests did not find, named after it. Each tells what happened, and what a run says of the
// same today.
package incidents
