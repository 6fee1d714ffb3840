#!/usr/bin/env bash
# A load test with a verdict: exit code 0 when every goal of the scenario is met, 1 when one is missed.
#
#   deploy/loadtest.sh baseline   p95 at most 3 s with a backend of 1.5 s, of which the gateway adds 150 ms at most
#   deploy/loadtest.sh limits     a rate, a quota and a budget: the backend counts exactly the calls that they state
#   deploy/loadtest.sh burst      2 000/s for ten seconds: 200 or a stated 429 or 503, and p99 is normal again
#   deploy/loadtest.sh soak       half an hour: slopes of memory, open files, store keys and lag are near 0
#
# It starts a stack of its own and ends it. What follows the scenario are options of `tallygate bench`: --rate 20, --scale 0.1
# (a tenth of the usual time), --report FILE, --json; for baseline also --url, --key-env, --model and --backend-url of a
# gateway that runs already.
set -euo pipefail
cd "$(dirname "$0")/.."
tallygate=${TALLYGATE:-.venv/bin/tallygate}

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }

[ $# -ge 1 ] || usage
case $1 in
  baseline | limits | soak) scenario=$1 ;;
  burst) scenario=overload ;;
  *) usage ;;
esac
name=$1
shift

verdict=0
"$tallygate" bench "$scenario" --must-meet "$@" || verdict=$?
case $verdict in
  0) echo "$name: PASSED" >&2 ;;
  *) echo "$name: FAILED (exit code $verdict)" >&2 ;;
esac
exit "$verdict"
