#!/usr/bin/env bash
# A look at a gateway after it was deployed: seconds, one line a check, exit code 1 when one fails. It needs curl alone.
#
#   TALLYGATE_API_KEY=tg_live_... deploy/smoke.sh https://gateway.example.com [MODEL]
#
# The URL is the gateway's, with or without /v1. Without MODEL the first one is asked for that the key may use. It sends a few
# small requests of eight tokens at most, which are billed to the key. TALLYGATE_CA names a file of authorities.
set -uo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ -z "${TALLYGATE_API_KEY:-}" ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
root=${1%/}
root=${root%/v1}
model=${2:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

# ask METHOD PATH [curl's options...]: the status; head and body stand in the folder. The key is on no command line.
ask() {
  local method=$1 path=$2
  shift 2
  rm -f "$folder/head" "$folder/body"
  touch "$folder/head" "$folder/body"
  curl --silent --show-error --noproxy '*' --max-time 30 ${TALLYGATE_CA:+--cacert "$TALLYGATE_CA"} \
    --request "$method" --dump-header "$folder/head" --output "$folder/body" --write-out '%{http_code}' \
    "$@" "$root$path" 2>"$folder/error" || true
}

with_key=(--header @"$folder/key" --header 'content-type: application/json')
printf 'authorization: Bearer %s\n' "$TALLYGATE_API_KEY" >"$folder/key"

# check TEXT CONDITION...: a line, and what was answered where it does not hold.
check() {
  local text=$1
  shift
  if "$@"; then
    echo "ok      $text"
  else
    echo "FAILED  $text: $(cat "$folder/error" 2>/dev/null | head -c 200)$(head -c 300 "$folder/body" | tr -d '[:cntrl:]')"
    failed=$((failed + 1))
  fi
}

body_has() { grep -q -- "$1" "$folder/body"; }
head_has() { grep -qi -- "$1" "$folder/head"; }
same() { [ "$1" = 200 ] && cmp -s "$folder/first" "$folder/body"; }
both() { [ "$1" = "$2" ] && body_has "$3"; }

status=$(ask GET /v1/status/healthz)
check "it answers (healthz $status)" [ "$status" = 200 ]
status=$(ask GET /v1/status/readyz)
check "it can serve (readyz $status)" [ "$status" = 200 ]

status=$(ask GET /v1/models)
check "without a key it says 401 ($status)" both "$status" 401 '"error"'
status=$(ask GET /v1/models --header 'authorization: Bearer tg_live_nobody')
check "with a wrong key it says 401 ($status)" both "$status" 401 '"error"'
status=$(ask GET /v1/models "${with_key[@]}")
check "it lists the models of the key ($status)" both "$status" 200 '"object":"list"'
[ -n "$model" ] || model=$(grep -o '"id":"[^"]*"' "$folder/body" | head -n 1 | cut -d '"' -f 4)
check "there is a model to ask for: ${model:-none}" [ -n "$model" ]

said() { printf '{"model":"%s","max_tokens":8,"messages":[{"role":"user","content":"smoke"}]%s}' "$model" "$1"; }

status=$(ask POST /v1/chat/completions "${with_key[@]}" --data "$(said '')")
check "a completion is answered ($status)" both "$status" 200 '"choices"'
check "it says what it used" body_has '"total_tokens"'
check "it says which request it was" head_has '^x-request-id: .'
status=$(ask POST /v1/chat/completions "${with_key[@]}" --no-buffer --data "$(said ',"stream":true')")
check "a stream ends as one ($status)" both "$status" 200 'data: \[DONE\]'

key="smoke-$(date +%s)-$$"
status=$(ask POST /v1/chat/completions "${with_key[@]}" --header "idempotency-key: $key" --data "$(said '')")
check "a keyed request is answered ($status)" both "$status" 200 '"choices"'
cp "$folder/body" "$folder/first"
status=$(ask POST /v1/chat/completions "${with_key[@]}" --header "idempotency-key: $key" --data "$(said '')")
check "the same again is the same answer ($status)" same "$status"
status=$(ask POST /v1/chat/completions "${with_key[@]}" --header "idempotency-key: $key" --data "$(said ',"n":1,"seed":1')")
check "another body under that key says 422 ($status)" both "$status" 422 '"error"'

status=$(ask POST /v1/chat/completions "${with_key[@]}" --data '{"model":')
check "what is no JSON says 400 ($status)" both "$status" 400 '"error"'
status=$(ask POST /v1/chat/completions "${with_key[@]}" --data '{"model":"no-such-model","messages":[{"role":"user","content":"x"}]}')
check "an unknown model says 404 ($status)" both "$status" 404 '"error"'
status=$(ask GET /v1/nothing "${with_key[@]}")
check "an unknown path says 404 ($status)" [ "$status" = 404 ]
status=$(ask GET /admin/v1/orgs "${with_key[@]}")
check "the admin API is not on this port ($status)" [ "$status" = 404 ]

if [ "$failed" -gt 0 ]; then
  echo "$failed checks FAILED at $root" >&2
  exit 1
fi
echo "all checks passed at $root" >&2
