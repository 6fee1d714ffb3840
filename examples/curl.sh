#!/bin/sh
# What there is, a completion, a stream, and what is left of the limits, with nothing but curl.
# OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
set -eu
model=${TALLYGATE_MODEL:-echo-1}

ask() {
  # --fail-with-body: a refusal ends this script, and its reason is still shown.
  curl --silent --show-error --fail-with-body --max-time 30 \
    -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" "$@"
}

ask "$OPENAI_BASE_URL/models"; echo
# With a key of its own a POST may be tried again: it is run, and paid for, once.
ask "$OPENAI_BASE_URL/chat/completions" -H "Idempotency-Key: curl-$$-$(date +%s)" \
  -d '{"model": "'"$model"'", "messages": [{"role": "user", "content": "hello from a shell"}]}'; echo
# -N: events as they come.
ask -N "$OPENAI_BASE_URL/chat/completions" \
  -d '{"model": "'"$model"'", "stream": true, "messages": [{"role": "user", "content": "one two three"}]}'
ask "$OPENAI_BASE_URL/limits"; echo
