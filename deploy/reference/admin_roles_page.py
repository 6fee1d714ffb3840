"""The generated page of the control plane's roles."""

from __future__ import annotations

from deploy.reference.field_docs import field_docs
from deploy.reference.markdown import code, page, table
from ingress.admin.route_roles import ROUTE_ROLES
from schemas.admin_roles import Role


def admin_roles_page() -> str:
    """Who may do what over the admin API under mutual TLS."""
    docs = field_docs(Role)
    rows = [
        (
            code(f"{row.method} /admin/v1{row.path.replace(':path', '')}"),
            *(_may(role, row.roles, row.with_texts) for role in Role),
        )
        for row in ROUTE_ROLES
    ]
    return page(
        "Roles of the admin API",
        "`ingress/admin/route_roles.py`",
        "With `TALLYGATE_ADMIN_TLS_*` the admin port speaks TLS to clients with a certificate, and `TALLYGATE_ADMIN_ROLES` names a\n"
        "file with a line `ROLE IDENTITY` for each. An identity is `uri:`, `dns:` or `cn:` and the one name of that kind in the\n"
        "certificate; of several kinds the first counts, and two names of that kind are nobody. A line that is taken out is obeyed\n"
        "from the next request on. Who has no line gets 403 `certificate_unknown`, whose role is too low 403 `role_not_allowed`; both\n"
        "are audited as `admin.refused`. Status pages and metrics are for every certificate.",
        table(("role", "meaning"), [(code(role), docs[role.name]) for role in Role]),
        "*Not texts*: what became of a request, but not its texts (`--payload`).",
        table(("route", *map(code, Role)), rows),
    )


def _may(role: Role, roles: frozenset[Role], with_texts: frozenset[Role] | None) -> str:
    if role not in roles:
        return ""
    return "yes" if with_texts is None or role in with_texts else "not texts"
