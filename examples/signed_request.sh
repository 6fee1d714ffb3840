#!/bin/sh
# A signed request with curl and openssl.
#
# OPENAI_BASE_URL, OPENAI_API_KEY and TALLYGATE_SIGNING_SECRET (of `tallygate keys create --signed`) say where and as whom;
# TALLYGATE_MODEL names a model. Each request is taken once: sign again what is to be sent again. The secret is an argument
# of openssl for a moment, which other users of the machine may see; where that matters, use signed_request.py.
set -eu

body='{"model": "'"${TALLYGATE_MODEL:-echo-1}"'", "messages": [{"role": "user", "content": "signed by a shell"}]}'
url="$OPENAI_BASE_URL/chat/completions?nonce=$(openssl rand -hex 8)"
target="/${url#*://*/}"
timestamp=$(date +%s)
digest=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
signature=$(printf %s "v1:$timestamp:POST:$target:$digest" |
    openssl dgst -sha256 -r -hmac "$TALLYGATE_SIGNING_SECRET" | cut -d ' ' -f 1)

curl --silent --show-error --fail-with-body --max-time 30 "$url" \
    --header "Authorization: Bearer $OPENAI_API_KEY" \
    --header "Content-Type: application/json" \
    --header "X-Tallygate-Timestamp: $timestamp" \
    --header "X-Tallygate-Signature: v1=$signature" \
    --data-binary "$body"
