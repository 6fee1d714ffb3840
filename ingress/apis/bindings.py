"""Binds each operation to what ingress does for it: parse a body, format an answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingress.apis.anthropic import messages
from ingress.apis.native import inference, jobs
from ingress.apis.openai import chat, embeddings, text_completions
from ingress.apis.openai.responses import create
from ingress.apis.parsed_request import Binding

BINDINGS: Final[Mapping[str, Binding]] = {
    "chat.completions": Binding(chat.parse, chat.format_answer),
    "completions": Binding(text_completions.parse, text_completions.format_answer),
    "embeddings": Binding(embeddings.parse, embeddings.format_answer),
    "responses": Binding(create.parse, create.format_answer, create.promise),
    "messages": Binding(messages.parse, messages.format_answer),
    "inference": Binding(inference.parse, inference.format_answer),
    "jobs": Binding(jobs.parse, jobs.format_answer),
}
