"""The protobuf files and the Python that was made of them are the same, and say what the native surface says."""

from __future__ import annotations

from pathlib import Path

from deploy.reference.protobuf import ROOT, generate
from ingress.apis.native.contract import InferenceRequest, InferenceResponse, JobBody
from schemas.errors import ERRORS, ErrorCode, grpc_status
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb

_METHODS = {"Infer", "InferStream", "SubmitJob", "GetJob", "CancelJob"}


def test_the_python_is_current(tmp_path: Path) -> None:
    """Whoever changes a file makes its Python anew: `make proto`."""
    made = generate(tmp_path)

    assert made
    for path in made:
        committed = ROOT / path.relative_to(tmp_path)
        assert committed.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), committed


def test_the_service_has_the_methods_of_the_specification() -> None:
    """In its package."""
    service = pb.DESCRIPTOR.services_by_name["InferenceService"]

    assert service.full_name == "tallygate.inference.v1.InferenceService"
    assert {method.name for method in service.methods} == _METHODS


def test_requests_have_the_fields_of_http() -> None:
    """But for `stream`, which is a method; a job has no second name for its messages."""
    fields = set(InferenceRequest.__struct_fields__) - {"stream"}

    assert set(pb.InferRequest.DESCRIPTOR.fields_by_name) == fields
    assert set(pb.InferStreamRequest.DESCRIPTOR.fields_by_name) == fields
    job = set(JobBody.__struct_fields__) - {"messages"}
    assert set(pb.SubmitJobRequest.DESCRIPTOR.fields_by_name) == job


def test_answers_have_the_fields_of_http() -> None:
    """What is told over one surface is told over the other."""
    told = set(InferenceResponse.__required_keys__ | InferenceResponse.__optional_keys__)

    assert set(pb.InferResponse.DESCRIPTOR.fields_by_name) == told


def test_every_error_has_a_status_of_grpc() -> None:
    """A quota, a budget and a rate are exhausted resources; only what is ours is INTERNAL."""
    told = {code: grpc_status(spec.status) for code, spec in ERRORS.items()}

    assert {code.value for code, status in told.items() if status == "INTERNAL"} == {
        "internal_error"
    }
    spent = {told[ErrorCode.BUDGET_EXCEEDED], told[ErrorCode.QUOTA_EXCEEDED], grpc_status(429)}
    assert spent == {"RESOURCE_EXHAUSTED"}
    assert grpc_status(418) == "INVALID_ARGUMENT"
    assert grpc_status(502) == grpc_status(503) == "UNAVAILABLE"
