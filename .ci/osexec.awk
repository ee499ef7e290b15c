# Judges one run of .ci/osexec: which tests passed, which differ on purpose, and what is wrong.
#
# Reads, told apart by their names: differs (name | message | reason, a line each), timeouts (name |
# reason), expected (every test of the binary), single (what came of tests that were run alone), alive
# (processes left running), log (what the binary printed) and events (the same as test2json understood
# it). Prints the differences and the problems; the last line counts.

function problem(text, test) {
	problems++
	print "  FAIL: " text
	if (test != "") tail(test)
}

# tail prints the last that a test said, where the verdict is.
function tail(test,   i) {
	for (i = max(0, lines[test] - 40); i < lines[test]; i++) print "        " output[test, i]
}

function max(a, b) { return a > b ? a : b }

function field(name,   s) {
	s = $0
	if (!sub(".*\"" name "\":\"", "", s)) return ""
	sub(/".*/, "", s)
	return s
}

function decoded(s) {
	sub(/.*"Output":"/, "", s)
	sub(/"}$/, "", s)
	gsub(/\\n/, "", s)
	gsub(/\\t/, "    ", s)
	gsub(/\\"/, "\"", s)
	gsub(/\\u003c/, "<", s)
	gsub(/\\u003e/, ">", s)
	gsub(/\\u0026/, "\\&", s)
	return s
}

FILENAME ~ /differs$/ {
	split($0, column, / *\| */)
	listed[++lists] = column[1]
	message[column[1]] = column[2]
	reason[column[1]] = column[3]
	next
}
FILENAME ~ /timeouts$/ {
	split($0, column, / *\| */)
	slow[column[1]] = column[2]
	next
}
FILENAME ~ /expected$/ { expected[$1] = 1; next }
FILENAME ~ /single$/ {
	split($0, column, "|")
	if (column[1] != "hangs") problem(column[2])
	else {
		print "  differs on purpose: " column[2] "\n      " column[3]
		ran++
		differ++
	}
	next
}
FILENAME ~ /alive$/ { problem("left running: " $0); next }

# What the binary says of itself, and no test of the list may excuse.
FILENAME ~ /log$/ {
	if (/^panic: |^fatal error: |WARNING: DATA RACE|detected a leaked exec.Cmd|helper command unused/) odd[$0] = 1
	next
}

/"Action":"run"/ && (test = field("Test")) != "" {
	if (!started[test]++) names[++named] = test
	for (parent = test; sub(/\/[^\/]*$/, "", parent); ) parents[parent] = 1
}
/"Action":"(pass|fail|skip)"/ && (test = field("Test")) != "" {
	ended[test]++
	got[test, field("Action")]++
	seconds = $0
	if (sub(/.*"Elapsed":/, "", seconds) && seconds + 0 >= timeout) overdue[test] = 1
}
/"Action":"output"/ && (test = field("Test")) != "" {
	text = decoded($0)
	if (test in message && index(text, message[test])) said[test] = 1
	output[test, lines[test]++] = text
}

END {
	for (i = 1; i <= named; i++) {
		test = names[i]
		failed = got[test, "fail"]
		if (ended[test] < started[test]) {
			problem(test " gave no result", test)
			continue
		}
		if (test in parents) {
			# It fails with its children; where none of them did, the failure is its own.
			for (j in names) if (index(names[j], test "/") == 1 && got[names[j], "fail"]) failed = 0
			if (failed) problem(test, test)
			continue
		}
		ran++
		if (test in reason) {
			if (failed != started[test]) problem(test " is listed as different, and " (got[test, "pass"] ? "passed" : "was skipped") ": " reason[test])
			else if (!said[test]) problem(test " is listed as different, and failed without saying \"" message[test] "\"", test)
			else {
				differ++
				differs[test] = 1
			}
		} else if (failed) {
			problem(test, test)
		} else if (got[test, "skip"]) {
			skipped++
			print "  skipped by the test itself: " test
			tail(test)
		} else if ((test in overdue) && !(test in slow)) {
			problem(test " only ended because the timeout was up", test)
		} else {
			passed++
			if (!(test in slow)) continue
			if (test in overdue) print "  passes only when the timeout is up: " test "\n      " slow[test]
			else problem(test " is listed as ending by the timeout, and did not need it")
		}
	}
	for (test in expected) if (!(test in started)) problem(test " was not run")
	for (line in odd) problem("the test binary said: " line)
	if (!ran) problem("no tests ran")
	if (status != 0 && !differ && !problems) problem("the test binary ended with status " status)
	for (i = 1; i <= lists; i++) {
		test = listed[i]
		if (test in differs) print "  differs on purpose: " test "\n      " reason[test]
		else if (!(test in started) && !partial) problem(test " is listed as different, and does not exist")
	}
	for (test in slow) if (!(test in started) && !partial) problem(test " is listed as ending by the timeout, and does not exist")
	printf "  %d run, %d passed, %d different on purpose, %d skipped, %d problems\n", ran, passed, differ, skipped, problems
	exit problems > 0
}
