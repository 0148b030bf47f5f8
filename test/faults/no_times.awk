# The columns of log.csv whose names say nothing of time.
NR == 1 { for (i = 1; i <= NF; i++) keep[i] = $i !~ /second|waited|time/ }
{ for (i = 1; i <= NF; i++) if (keep[i]) printf "%s,", $i; print "" }
