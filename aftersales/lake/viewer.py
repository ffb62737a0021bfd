"""Who is looking: the user and the role, found once and never taken from a page's address or widgets.

A name is believed only from where the settings say so: the operating system (commands, JupyterLab), JupyterHub
(`access.jupyterhub`), or the header a proxy sets for served pages (`access.trusted_proxy`). Without roles in
`workbench.yml` everybody is the owner and sees everything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from aftersales.model.errors import AccessError, known_names
from aftersales.model.policy import ADMINISTRATOR, OWNER, AccessSettings
from aftersales.model.settings import WorkbenchFile, Workspace

AS_ROLE_VARIABLE = "AFTERSALES_AS_ROLE"
AS_USER_VARIABLE = "AFTERSALES_AS_USER"
"""How a report's kernel is told for whom it runs; they give no right that the caller does not have."""
HEADER_VARIABLE = "HTTP_X_FORWARDED_USER"
HUB_VARIABLE = "JUPYTERHUB_USER"
SERVER_VARIABLE = "SERVER_SOFTWARE"
"""Set in the kernel of every page that Voila serves."""

Attributes = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Viewer:
    """One user in one role. `attributes` are facts about the user that row rules may use."""

    user: str
    role: str = OWNER
    roles: tuple[str, ...] = ()
    """All roles of the user; one counts at a time."""
    attributes: Attributes = field(default_factory=dict)
    administrator: str = ""
    """Who looks through this viewer's eyes, when somebody else does."""

    @property
    def sees_everything(self) -> bool:
        """Whether no rule applies: the owner, or an administrator as such."""
        return self.role in (OWNER, ADMINISTRATOR)


def system_user() -> str:
    """The operating-system user of this process; no environment variable changes it."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # Windows; a container's number without a name
        import getpass

        return getpass.getuser() if os.name == "nt" else str(os.getuid())


def resolve_viewer(
    workspace: Workspace, *, as_role: str = "", as_user: str = "", environment: Mapping[str, str] | None = None
) -> Viewer:
    """Who is looking.

    Parameters
    ----------
    as_role
        One of the user's own roles; any role for administrators.
    as_user
        Look through the eyes of this user: administrators only.
    environment
        The process's variables; those of this process when absent.

    Raises
    ------
    AccessError
        Roles are defined and this user has none, or may not look as somebody else.

    Examples
    --------
    >>> from pathlib import Path
    >>> viewer = resolve_viewer(Workspace(Path("."), WorkbenchFile()))
    >>> viewer.role, viewer.sees_everything
    ('owner', True)
    """
    settings, given = workspace.settings, os.environ if environment is None else environment
    is_served = _is_served(given)
    wanted_role = as_role or ("" if is_served else given.get(AS_ROLE_VARIABLE, ""))
    wanted_user = as_user or ("" if is_served else given.get(AS_USER_VARIABLE, ""))
    if not settings.roles:
        return _owner(wanted_role, wanted_user)
    user = identified_user(settings.access, given)
    if wanted_user and wanted_user != user:
        if user not in settings.access.administrators:
            raise AccessError(
                f"user {user}", f"may not look as '{wanted_user}'", fix="only those in access.administrators may"
            )
        return replace(_in_role(settings, wanted_user, wanted_role), administrator=user)
    return _in_role(settings, user, wanted_role)


def _owner(wanted_role: str, wanted_user: str) -> Viewer:
    if wanted_role or wanted_user:
        raise AccessError(
            "workbench.yml", "has no roles: everybody sees everything", fix="define 'roles' and 'access' first"
        )
    return Viewer(system_user())


def identified_user(settings: AccessSettings, environment: Mapping[str, str]) -> str:
    """The name of the user, from the one place that is believed here.

    Raises
    ------
    AccessError
        A served page came without the header of the trusted proxy: it did not come through the proxy.
    """
    if _is_served(environment) and settings.trusted_proxy:
        user = environment.get(HEADER_VARIABLE, "").strip()
        if not user:
            raise AccessError(
                "this visit", "did not come through the proxy that names its user",
                fix="open the page at its public address; the proxy must set X-Forwarded-User",
            )  # fmt: skip
        return user
    if settings.jupyterhub and environment.get(HUB_VARIABLE, "").strip():
        return environment[HUB_VARIABLE].strip()
    return system_user()


def _is_served(environment: Mapping[str, str]) -> bool:
    return environment.get(SERVER_VARIABLE, "").startswith("voila")


def roles_of(settings: AccessSettings, user: str) -> tuple[str, ...]:
    """Roles of `user`, own ones first, then those of groups; the default role when there is none."""
    own = settings.users[user].roles if user in settings.users else []
    shared = [role for group in settings.groups.values() if user in group.members for role in group.roles]
    default = [settings.default_role] if settings.default_role else []
    return tuple(dict.fromkeys([*own, *shared] or default))


def attributes_of(settings: AccessSettings, user: str) -> Attributes:
    """Attributes of `user`: own ones before those of groups, which are taken together."""
    found: dict[str, list[str]] = {}
    for group in settings.groups.values():
        if user in group.members:
            for name, value in group.attributes.items():
                found.setdefault(name, []).extend(_texts(value))
    if user in settings.users:
        found |= {name: _texts(value) for name, value in settings.users[user].attributes.items()}
    return {name: tuple(dict.fromkeys(values)) for name, values in sorted(found.items())}


def _texts(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _in_role(settings: WorkbenchFile, user: str, wanted: str) -> Viewer:
    """The user in the role asked for, else an administrator as such, else in the first of the own roles."""
    access = settings.access
    own, attributes = roles_of(access, user), attributes_of(access, user)
    is_administrator = user in access.administrators
    if wanted and wanted not in settings.roles and not (wanted == ADMINISTRATOR and is_administrator):
        raise AccessError("role", f"no role '{wanted}'", rows=known_names(settings.roles), fix="use one of them")
    if wanted and wanted not in own and not is_administrator:
        raise AccessError(
            f"user {user}", f"does not have the role '{wanted}'", rows=known_names(own),
            fix="use one of them, or ask an administrator",
        )  # fmt: skip
    if not wanted and not is_administrator and not own:
        raise AccessError(
            f"user {user}", "has no role here, and so sees nothing",
            fix="an administrator adds the user to access.users or access.groups in workbench.yml",
        )  # fmt: skip
    role = wanted or (ADMINISTRATOR if is_administrator else own[0])
    return Viewer(user, role, own, attributes, administrator=user if wanted and wanted not in own else "")
