// Package incidents holds one test for each incident that safeexec exists for, named after it. Each
// tells what happened, and what a run says of the same today.
package incidents
