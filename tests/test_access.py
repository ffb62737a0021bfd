"""Roles: which rows, columns and tables a viewer sees, and who a viewer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from lakes import lake

from aftersales.lake.access import Access, access_of, check_policy
from aftersales.lake.store import Snapshot
from aftersales.lake.viewer import Viewer, resolve_viewer, system_user
from aftersales.model.errors import AccessError, SettingsError
from aftersales.model.settings import Workspace, open_workspace

ME = system_user()

TICKETS = [
    {"ticket_id": "T1", "team": "北", "region": "N", "owner_id": "li", "customer_key": "c_1", "description": "坏了"},
    {"ticket_id": "T2", "team": "南", "region": "S", "owner_id": "wu", "customer_key": "c_2", "unit_id": "U2"},
    {"ticket_id": "T3", "team": "北", "region": "S", "owner_id": None, "customer_key": None, "unit_id": "U1"},
    {"ticket_id": "T4", "team": None, "region": None, "owner_id": "li", "customer_key": "c_1"},
]
WORLD: dict[str, list[dict[str, Any]]] = {
    "ticket": TICKETS,
    "ticket_event": [{"event_id": f"E{i}", "ticket_id": f"T{i}"} for i in range(1, 6)],
    "repair": [
        {"repair_id": "R1", "ticket_id": "T1", "unit_id": "U1"},
        {"repair_id": "R2", "ticket_id": "T2", "unit_id": "U1"},
        {"repair_id": "R3", "ticket_id": None, "unit_id": "U1"},
        {"repair_id": "R4", "ticket_id": None, "unit_id": None},
    ],
    "part_use": [{"part_use_id": f"P{i}", "repair_id": f"R{i}"} for i in range(1, 5)],
    "unit": [
        {"unit_id": "U1", "region": "N", "product_id": "A", "serial_no": "SL2204010001", "built_at": "2022-04-01"},
        {"unit_id": "U2", "region": "S", "product_id": "B", "serial_no": "short", "built_at": "2023-05-02"},
    ],
    "product": [{"product_id": "A", "model": "P1"}, {"product_id": "B", "model": "P2"}],
    "tag": [
        {"tag_id": "1", "source_table": "ticket", "source_id": "T1", "tag_set": "s", "tag": "x"},
        {"tag_id": "2", "source_table": "ticket", "source_id": "T2", "tag_set": "s", "tag": "x"},
        {"tag_id": "3", "source_table": "recall", "source_id": "K", "tag_set": "s", "tag": "x"},
    ],
}


def workspace(folder: Path, roles: Mapping[str, Any], access: Mapping[str, Any] | None = None) -> Workspace:
    text = yaml.safe_dump({"roles": dict(roles), "access": dict(access or {})}, allow_unicode=True, sort_keys=False)
    (folder / "workbench.yml").write_text(text, encoding="utf-8")
    return open_workspace(folder)


def seen_by(
    folder: Path, role: Mapping[str, Any], user: str = "li", attributes: Mapping[str, Any] | None = None, **world: Any
) -> Snapshot:
    """The small world as a user in this role sees it."""
    place = workspace(folder, {"r": role})
    facts = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in (attributes or {}).items()}
    access = access_of(place, Viewer(user, "r", ("r",), facts))
    return replace(lake(folder, **(world or WORLD)), access=access)


def keys(snapshot: Snapshot, table: str, key: str) -> list[str]:
    return sorted(snapshot.table(table)[key].execute())


# ----------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("owner_id == $user", ["T1", "T4"]),
        ("$user == owner_id", ["T1", "T4"]),
        ("team == $team", ["T1", "T3"]),
        ("team in $team", ["T1", "T3"]),
        ("team not in $team", ["T2"]),
        ("team != $team", ["T2"]),
        ("region in $regions", ["T1", "T2", "T3"]),
        ("region == $regions and team == $team", ["T1", "T3"]),
        ("region == 'S' or owner_id == $user", ["T1", "T2", "T3", "T4"]),
        ("not region == 'S'", ["T1"]),
        ("not is_known(team)", ["T4"]),
        ("team == '$team'", []),
    ],
)
def test_a_row_rule_keeps_the_rows_it_holds_for_and_an_unknown_value_is_not_seen(
    tmp_path: Path, rule: str, expected: list[str]
) -> None:
    seen = seen_by(tmp_path, {"rows": {"ticket": rule}}, attributes={"team": "北", "regions": ["N", "S"]})
    assert keys(seen, "ticket", "ticket_id") == expected


def test_tables_that_hang_on_a_ruled_table_follow_it_and_the_others_are_refused(tmp_path: Path) -> None:
    seen = seen_by(tmp_path, {"rows": {"ticket": "team == '北'"}})
    assert keys(seen, "ticket_event", "event_id") == ["E1", "E3"]
    assert keys(seen, "repair", "repair_id") == ["R1"], "a repair without a ticket hangs on nothing that is seen"
    assert keys(seen, "part_use", "part_use_id") == ["P1"]
    assert keys(seen, "tag", "tag_id") == ["1"]
    for table in ("unit", "product", "order", "recall", "delivery"):
        with pytest.raises(AccessError, match=f"may not see the table {table}\n.*says nothing of it"):
            seen.table(table)
        with pytest.raises(AccessError):
            seen.versions_of(table)
        assert not seen.has_rows(table)


def test_a_row_that_names_two_parents_is_seen_when_both_are(tmp_path: Path) -> None:
    seen = seen_by(tmp_path, {"rows": {"ticket": "team == '北'", "unit": "region == 'N'"}})
    assert keys(seen, "repair", "repair_id") == ["R1", "R3"], "R2: the ticket is not seen; R4 names no parent"


def test_via_says_on_which_table_rows_hang_in_either_direction(tmp_path: Path) -> None:
    rows = {"ticket": "team == '南'", "unit": "via ticket", "repair": "via unit", "product": "all"}
    seen = seen_by(tmp_path, {"rows": rows})
    assert keys(seen, "unit", "unit_id") == ["U2"], "units of the tickets seen"
    assert keys(seen, "repair", "repair_id") == []
    assert keys(seen, "product", "product_id") == ["A", "B"]


def test_a_rule_of_every_table_applies_where_its_columns_are_and_is_inherited_elsewhere(tmp_path: Path) -> None:
    seen = seen_by(tmp_path, {"rows": {"*": "region == 'N'", "product": "all"}})
    assert keys(seen, "ticket", "ticket_id") == ["T1"]
    assert keys(seen, "unit", "unit_id") == ["U1"]
    assert keys(seen, "repair", "repair_id") == ["R1", "R3"]
    with pytest.raises(AccessError):
        seen.table("recall")


def test_a_role_without_row_rules_sees_all_rows_of_its_tables_only(tmp_path: Path) -> None:
    seen = seen_by(tmp_path, {"tables": ["ticket", "tag"]})
    assert keys(seen, "ticket", "ticket_id") == ["T1", "T2", "T3", "T4"]
    assert keys(seen, "tag", "tag_id") == ["1", "2"], "a tag of a recall tells of the recall"
    with pytest.raises(AccessError, match=r"may not see the table unit\n.*roles.r.tables does not list it"):
        seen.table("unit")


def test_a_user_without_the_attribute_a_rule_needs_is_refused_and_not_shown_nothing(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"user li: has no 'team', which the row rule of role r needs"):
        seen_by(tmp_path, {"rows": {"ticket": "team == $team"}}).table("ticket")


# --------------------------------------------------------------------------------------------------------- columns


def test_columns_above_the_tier_are_blank_and_masks_change_what_is_seen(tmp_path: Path) -> None:
    columns = {"unit.serial_no": "last4", "unit.built_at": "year", "*.customer_key": "hash", "unit.region": "hide"}
    seen = seen_by(tmp_path, {"columns": columns})
    units = seen.table("unit").order_by("unit_id").execute()
    assert list(units["serial_no"]) == ["****0001", "****"]
    assert [str(day)[:10] for day in units["built_at"]] == ["2022-01-01", "2023-01-01"]
    assert units["region"].isna().all()
    tickets = seen.table("ticket").order_by("ticket_id").execute()
    assert tickets["description"].isna().all()
    assert tickets["owner_id"].isna().all()
    assert list(tickets["team"])[:3] == ["北", "南", "北"]
    first, second, none, again = tickets["customer_key"]
    assert first == again != second
    assert len(first) == 20
    assert none is None or none != none


def test_a_rule_may_use_a_column_it_hides(tmp_path: Path) -> None:
    seen = seen_by(tmp_path, {"rows": {"ticket": "owner_id == $user"}, "columns": {"ticket.owner_id": "hide"}})
    found = seen.table("ticket").execute()
    assert sorted(found["ticket_id"]) == ["T1", "T4"]
    assert found["owner_id"].isna().all()


def test_the_schema_does_not_change_with_the_viewer(tmp_path: Path) -> None:
    owner = lake(tmp_path, **WORLD)
    seen = seen_by(tmp_path, {"tier": "P0", "columns": {"unit.built_at": "year", "ticket.unit_id": "hash"}})
    for table in WORLD:
        assert seen.table(table).schema() == owner.table(table).schema()
        assert seen.versions_of(table).schema() == owner.versions_of(table).schema()


# ------------------------------------------------------------------------------------------------------ the policy


def test_every_problem_of_the_roles_is_named_with_its_place(tmp_path: Path) -> None:
    role = {
        "tables": ["ticket", "tikcet"],
        "rows": {
            "ticket": "teem == $team",
            "unit": "via recall",
            "product": "model",
            "survey": "__import__('os')",
            "order": "status == 'a' and [x for x in 'b']",
            "nothing": "all",
            "*": "colour == 'red'",
        },
        "columns": {
            "ticket.nope": "hide",
            "ticket.team": "unsealed",
            "unit.batch": "year",
            "ticket.created_at": "hash",
        },
    }
    place = workspace(tmp_path, {"r": role})
    with pytest.raises(SettingsError) as caught:
        check_policy(place)
    lines = [line.strip() for line in caught.value.rows.splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        "roles.r.tables", "roles.r.rows.ticket", "roles.r.rows.unit", "roles.r.rows.product", "roles.r.rows.survey",
        "roles.r.rows.order", "roles.r.rows.nothing", "roles.r.rows.*", "roles.r.columns.ticket.nope",
        "roles.r.columns.ticket.team", "roles.r.columns.unit.batch", "roles.r.columns.ticket.created_at"]  # fmt: skip
    with pytest.raises(SettingsError, match="12 problems in the roles"):
        access_of(place, Viewer("li", "r"))


def test_unknown_keys_and_roles_are_named_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        workspace(
            tmp_path,
            {"frontline": {"teir": "P2"}, "owner": {}},
            {"default_role": "guest", "users": {"li": {"roles": ["frontlin"]}}, "trusted_proxy": "yes"},
        )
    for said in (
        "unknown key 'teir'",
        "no role 'guest'; known: frontline",
        "no role 'frontlin'",
        "'owner' is a role of",
    ):
        assert said in caught.value.rows


# ------------------------------------------------------------------------------------------------------- identity


def test_without_roles_everybody_is_the_owner(tmp_path: Path) -> None:
    place = workspace(tmp_path, {})
    viewer = resolve_viewer(place, environment={"JUPYTERHUB_USER": "eve", "HTTP_X_FORWARDED_USER": "eve"})
    assert (viewer.user, viewer.role) == (ME, "owner")
    assert access_of(place, viewer) is None


def test_an_unknown_user_is_refused_where_roles_are_defined(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=f"user {ME}: has no role here, and so sees nothing"):
        resolve_viewer(workspace(tmp_path, {"r": {}}), environment={})
    place = workspace(tmp_path, {"r": {}}, {"default_role": "r"})
    assert resolve_viewer(place, environment={}).role == "r"


def test_roles_and_attributes_come_from_the_user_and_its_groups(tmp_path: Path) -> None:
    access = {
        "users": {ME: {"roles": ["lead"], "attributes": {"team": "北"}}},
        "groups": {
            "a": {"members": [ME], "roles": ["analyst", "lead"], "attributes": {"team": "南", "region": ["N", "S"]}},
            "b": {"members": [ME, "x"], "attributes": {"region": "W"}},
        },
    }
    place = workspace(tmp_path, {"lead": {}, "analyst": {}, "boss": {}}, access)
    viewer = resolve_viewer(place, environment={})
    assert (viewer.role, viewer.roles) == ("lead", ("lead", "analyst"))
    assert viewer.attributes == {"team": ("北",), "region": ("N", "S", "W")}
    assert resolve_viewer(place, as_role="analyst", environment={}).role == "analyst"
    assert resolve_viewer(place, environment={"AFTERSALES_AS_ROLE": "analyst"}).role == "analyst"
    with pytest.raises(AccessError, match="does not have the role 'boss'"):
        resolve_viewer(place, as_role="boss", environment={})
    with pytest.raises(AccessError, match="may not look as 'x'"):
        resolve_viewer(place, as_user="x", environment={})


def test_an_administrator_sees_everything_and_may_look_through_other_eyes(tmp_path: Path) -> None:
    access = {"administrators": [ME], "users": {"li": {"roles": ["r"], "attributes": {"team": "北"}}}}
    place = workspace(tmp_path, {"r": {"rows": {"ticket": "team == $team"}}}, access)
    viewer = resolve_viewer(place, environment={})
    assert (viewer.role, viewer.sees_everything) == ("administrator", True)
    seen = access_of(place, viewer)
    assert isinstance(seen, Access)
    assert seen.role is None
    other = resolve_viewer(place, as_user="li", environment={})
    assert (other.user, other.role, other.administrator, other.attributes) == ("li", "r", ME, {"team": ("北",)})


SERVED = {"SERVER_SOFTWARE": "voila/0.5.13"}


def test_a_served_page_believes_the_proxy_only_where_the_settings_say_so(tmp_path: Path) -> None:
    users = {"users": {"li": {"roles": ["r"]}, ME: {"roles": ["mine"]}}}
    roles: dict[str, Any] = {"r": {}, "mine": {}}
    plain = workspace(tmp_path, roles, users)
    header = {**SERVED, "HTTP_X_FORWARDED_USER": "li"}
    assert resolve_viewer(plain, environment=header).user == ME, "anybody can send a header"
    trusting = workspace(tmp_path, roles, {**users, "trusted_proxy": True, "administrators": [ME]})
    assert resolve_viewer(trusting, environment=header).user == "li"
    with pytest.raises(AccessError, match="did not come through the proxy"):
        resolve_viewer(trusting, environment=SERVED)
    with pytest.raises(AccessError, match="user eve: has no role here"):
        resolve_viewer(trusting, environment={**SERVED, "HTTP_X_FORWARDED_USER": "eve"})
    assert resolve_viewer(trusting, environment={"HTTP_X_FORWARDED_USER": "li"}).user == ME, "a command has no proxy"
    leaked = {**header, "AFTERSALES_AS_ROLE": "mine", "AFTERSALES_AS_USER": ME}
    assert resolve_viewer(trusting, environment=leaked).role == "r", "a page is never another role"


def test_jupyterhub_names_the_user_only_where_the_settings_say_so(tmp_path: Path) -> None:
    users = {"users": {"li": {"roles": ["r"]}, ME: {"roles": ["r"]}}}
    given = {"JUPYTERHUB_USER": "li", "LOGNAME": "root", "USER": "root"}
    assert resolve_viewer(workspace(tmp_path, {"r": {}}, users), environment=given).user == ME
    assert resolve_viewer(workspace(tmp_path, {"r": {}}, {**users, "jupyterhub": True}), environment=given).user == "li"


def test_the_roles_of_the_guide_and_of_workbench_yml_hold(tmp_path: Path) -> None:
    home = Path(__file__).parent.parent
    guide = (home / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = [part for part in guide.split("```yaml")[1:] if part.lstrip().startswith("roles:")]
    settings = (home / "workbench.yml").read_text(encoding="utf-8").partition("# roles:")
    commented = "roles:\n" + "\n".join(line.removeprefix("# ") for line in settings[2].splitlines())
    for text in (block.partition("```")[0], commented):
        (tmp_path / "workbench.yml").write_text(text, encoding="utf-8")
        place = open_workspace(tmp_path)
        check_policy(place)
        viewer = resolve_viewer(place, environment={}, as_role="") if place.settings.access.default_role else None
        assert viewer is None or viewer.role == "executive"
        for role in place.settings.roles:
            access = access_of(place, Viewer("li.na", role, (role,), {"team": ("北区",)}))
            assert isinstance(access, Access)
            assert access.may_read("ticket")
            assert not access.may_read("recall") or role == "analyst"


def test_ids_of_staff_are_compared_as_pseudonyms(tmp_path: Path) -> None:
    from aftersales.lake.vault import STAFF, pseudonyms

    place = workspace(tmp_path, {"r": {"rows": {"ticket": "owner_id == staff_pseudonym($user)"}}})
    mine = pseudonyms(place).of("li", STAFF)
    rows = [{"ticket_id": "T1", "owner_id": mine}, {"ticket_id": "T2", "owner_id": "li"}, {"ticket_id": "T3"}]
    seen = replace(lake(tmp_path, ticket=rows), access=access_of(place, Viewer("li", "r")))
    assert keys(seen, "ticket", "ticket_id") == ["T1"]


def test_what_a_source_or_the_workspace_holds_to_be_personal_is_hidden_too(tmp_path: Path) -> None:
    (tmp_path / "data" / "sources").mkdir(parents=True)
    source = "tables: {ticket: {columns: {x_phone: {from: tel, tier: P2}, team: 团队}}}"
    (tmp_path / "data" / "sources" / "crm.yml").write_text(source, encoding="utf-8")
    text = {"roles": {"r": {}}, "privacy": {"tiers": {"ticket.region": "P2"}}}
    (tmp_path / "workbench.yml").write_text(yaml.safe_dump(text), encoding="utf-8")
    access = access_of(open_workspace(tmp_path), Viewer("li", "r"))
    assert access is not None
    shown = {name: access.treatment("ticket", name).show for name in ("x_phone", "region", "team", "x_other")}
    assert shown == {"x_phone": "hide", "region": "hide", "team": "show", "x_other": "show"}


def test_raw_rows_of_the_quarantine_need_every_column_of_their_table(tmp_path: Path) -> None:
    def role(**more: Any) -> Access:
        access = access_of(workspace(tmp_path, {"r": more}), Viewer("li", "r"))
        assert access is not None
        return access

    assert role(tier="P1").treatment("quarantine", "raw").show == "hide"
    assert role(tier="P2").treatment("quarantine", "raw").show == "show"
    assert not role(tier="P2")._sees_every_column("ticket"), "a place on the map is P3"
    assert role(tier="P3")._sees_every_column("ticket")
    assert not role(tier="P3", columns={"ticket.subject": "hide"})._sees_every_column("ticket")
    assert not role(tier="P3", rows={"ticket": "team == 'x'"}).may_read("quarantine")
