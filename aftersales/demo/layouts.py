"""How each ticket channel writes a ticket: its headers, its words for our codes and its way to write moments."""

from __future__ import annotations

from dataclasses import dataclass

from .units import PRODUCTS

MODEL_NAMES = dict(zip(PRODUCTS["product_id"], PRODUCTS["model"], strict=True))


@dataclass(frozen=True)
class TicketLayout:
    """One channel's export: canonical column -> header, canonical code -> word, strftime layout of moments.

    `moments` None means spreadsheet cells; `is_utc` False means local time. `bad_dates` are what people type instead.
    """

    channel: str
    headers: dict[str, str]
    words: dict[str, dict[str, str]]
    teams: tuple[str, ...]
    moments: str | None
    is_utc: bool
    bad_dates: tuple[str, ...]
    unknown_type: str


CANONICAL = [
    "ticket_id", "unit_id", "product_id", "customer_key", "ticket_type", "issue_type", "symptom_code", "severity",
    "status", "region", "language", "team", "subject", "description", "occurred_at", "created_at", "accepted_at",
    "first_reply_at", "first_resolved_at", "last_resolved_at", "closed_at", "human_touched", "known_at", "updated_at",
    "reopened_n",
]  # fmt: skip
HOTLINE_HEADERS = [
    "工单号", "产品序列号", "产品型号", "客户编号", "工单类型", "问题分类", "故障现象", "紧急程度",
    "工单状态", "所属区域", "", "处理班组", "标题", "问题描述", "故障时间", "创建时间", "受理时间",
    "首响时间", "首次解决时间", "最后解决时间", "关闭时间", "", "登记时间", "更新时间", "重开次数",
]  # fmt: skip
APP_HEADERS = [
    "id", "device_sn", "model_code", "user_id", "type", "category", "symptom", "priority",
    "state", "area", "lang", "team", "title", "content", "happened_at", "created_at", "accepted_at",
    "first_reply_at", "first_resolved_at", "last_resolved_at", "closed_at", "by_human", "stored_at", "updated_at",
    "reopened",
]  # fmt: skip
EMAIL_HEADERS = [
    "Case No", "Serial Number", "Model", "Customer", "Type", "Category", "Symptom", "Severity",
    "Status", "Region", "", "Team", "Subject", "Body", "Occurred (UTC)", "Opened (UTC)", "Assigned (UTC)",
    "First Reply (UTC)", "First Solved (UTC)", "Solved (UTC)", "Closed (UTC)", "", "Logged (UTC)", "Updated (UTC)",
    "Reopened",
]  # fmt: skip
DEALER_HEADERS = [
    "服务单号", "机身编码", "型号", "客户代码", "类型", "分类", "现象代码", "等级",
    "状态", "大区", "", "受理部门", "主题", "描述", "发生日期", "提交时间", "接单时间",
    "首次回复", "首次完成", "最终完成", "结案时间", "", "录入时间", "更新时间", "返工次数",
]  # fmt: skip
DEALER_EXTRA_HEADERS = ("服务商编号", "备注")

ZH_REGIONS = {name: name for name in ("华东", "华南", "华北", "华中", "西南", "东北", "西北")} | {"Overseas": "海外"}
SYMPTOMS_ZH = {
    "no_power": "没电/无反应",
    "battery_drain": "耗电快",
    "fingerprint_not_read": "指纹识别不良",
    "wont_unlock": "打不开门",
    "motor_noise": "异响",
    "offline": "设备离线",
    "app_error": "APP异常",
    "keypad_dead": "键盘失灵",
    "bolt_stuck": "锁舌卡滞",
}


def _headers(names: list[str]) -> dict[str, str]:
    return {column: name for column, name in zip(CANONICAL, names, strict=True) if name}


HOTLINE = TicketLayout(
    channel="phone",
    headers=_headers(HOTLINE_HEADERS),
    words={
        "product_id": MODEL_NAMES,
        "ticket_type": {
            "fault": "故障",
            "complaint": "投诉",
            "consultation": "咨询",
            "installation": "安装",
            "suggestion": "建议",
        },
        "issue_type": {
            "hardware": "硬件",
            "software": "软件",
            "operation": "使用操作",
            "service": "服务",
            "delivery": "物流",
            "installation": "安装",
            "feature": "功能需求",
        },
        "symptom_code": SYMPTOMS_ZH,
        "severity": {"low": "低", "medium": "中", "high": "高", "critical": "紧急"},
        "status": {
            "open": "待处理",
            "in_progress": "处理中",
            "waiting": "等待客户",
            "resolved": "已解决",
            "closed": "已关闭",
        },
        "region": ZH_REGIONS,
    },
    teams=("一线A组", "一线B组", "夜班组", "技术二线"),
    moments="%Y/%m/%d %H:%M",
    is_utc=False,
    bad_dates=("待定", "0000-00-00"),
    unknown_type="其他业务",
)
APP = TicketLayout(
    channel="app",
    headers=_headers(APP_HEADERS),
    words={
        "product_id": {name: name for name in MODEL_NAMES},
        "ticket_type": {
            "fault": "FAULT",
            "complaint": "COMPLAINT",
            "consultation": "CONSULT",
            "installation": "INSTALL",
            "suggestion": "SUGGEST",
        },
        "issue_type": {
            "hardware": "HW",
            "software": "SW",
            "operation": "USAGE",
            "service": "SERVICE",
            "delivery": "LOGISTICS",
            "installation": "INSTALL",
            "feature": "FEATURE",
        },
        "symptom_code": {name: name.upper() for name in SYMPTOMS_ZH},
        "severity": {"low": "P4", "medium": "P3", "high": "P2", "critical": "P1"},
        "status": {
            "open": "NEW",
            "in_progress": "IN_PROGRESS",
            "waiting": "WAITING",
            "resolved": "RESOLVED",
            "closed": "CLOSED",
        },
        "region": {
            "华东": "EAST",
            "华南": "SOUTH",
            "华北": "NORTH",
            "华中": "CENTRAL",
            "西南": "SOUTHWEST",
            "东北": "NORTHEAST",
            "西北": "NORTHWEST",
            "Overseas": "OVERSEAS",
        },
    },
    teams=("app-care", "app-care-night", "tier2"),
    moments="%Y-%m-%dT%H:%M:%SZ",
    is_utc=True,
    bad_dates=("0000-00-00", "TBD"),
    unknown_type="OTHER_2",
)
EMAIL = TicketLayout(
    channel="email",
    headers=_headers(EMAIL_HEADERS),
    words={
        "product_id": MODEL_NAMES,
        "ticket_type": {
            "fault": "Fault report",
            "complaint": "Complaint",
            "consultation": "Question",
            "installation": "Installation",
            "suggestion": "Suggestion",
        },
        "issue_type": {
            "hardware": "Hardware",
            "software": "Software",
            "operation": "How to",
            "service": "Service",
            "delivery": "Delivery",
            "installation": "Installation",
            "feature": "Feature request",
        },
        "symptom_code": {name: name.replace("_", " ").capitalize() for name in SYMPTOMS_ZH},
        "severity": {"low": "Low", "medium": "Normal", "high": "High", "critical": "Critical"},
        "status": {
            "open": "Open",
            "in_progress": "In progress",
            "waiting": "Waiting for customer",
            "resolved": "Solved",
            "closed": "Closed",
        },
        "region": {"Overseas": "Overseas"} | {name: name for name in ZH_REGIONS if name != "Overseas"},
    },
    teams=("Overseas Desk", "Overseas Tier 2"),
    moments=None,
    is_utc=True,
    bad_dates=("待定", "tbd"),
    unknown_type="Spam?",
)
DEALER = TicketLayout(
    channel="dealer",
    headers=_headers(DEALER_HEADERS),
    words={
        "product_id": MODEL_NAMES,
        "ticket_type": {
            "fault": "报修",
            "complaint": "客诉",
            "consultation": "咨询",
            "installation": "安装单",
            "suggestion": "建议",
        },
        "issue_type": {
            "hardware": "硬件",
            "software": "软件",
            "operation": "操作",
            "service": "服务",
            "delivery": "配送",
            "installation": "安装",
            "feature": "需求",
        },
        "symptom_code": {name: f"F{number:02d}" for number, name in enumerate(SYMPTOMS_ZH, start=1)},
        "severity": {"low": "D", "medium": "C", "high": "B", "critical": "A"},
        "status": {"open": "新建", "in_progress": "处理中", "waiting": "待件", "resolved": "完成", "closed": "结案"},
        "region": {name: f"{word}大区" for name, word in ZH_REGIONS.items()},
    },
    teams=("渠道服务部", "渠道, 技术支持"),
    moments="%d.%m.%Y %H:%M:%S",
    is_utc=False,
    bad_dates=("待定", "00.00.0000"),
    unknown_type="转单",
)
