# Reads what a test binary printed with -test.v, and prints "skip NAME: REASON" for each test that
# skipped itself and then "total PASSED FAILED SKIPPED", subtests included.

$1 == "===" && NF >= 3 {
	name = $3
	if ($2 == "RUN") said[name] = ""
	next
}
/^ *--- (PASS|FAIL|SKIP): / {
	total[$2]++
	if ($2 == "SKIP:") print "skip " $3 ": " (said[$3] == "" ? "gives no reason" : said[$3])
	next
}
# The last thing that a test logs before it skips is why: "    file_test.go:12: reason".
/^    [^ ]+\.go:[0-9]+: / {
	reason = $0
	sub(/^ +[^ ]+ /, "", reason)
	said[name] = reason
}
END { print "total", total["PASS:"] + 0, total["FAIL:"] + 0, total["SKIP:"] + 0 }
