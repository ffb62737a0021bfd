"""What customers write: phrases in Chinese and English by topic, put together at random."""

from __future__ import annotations

import numpy as np
import pandas as pd

PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {
        "battery_leakage": (
            "打开电池仓发现电池漏液, 有白色粉末",
            "电池漏液把触点都腐蚀了，门锁没电",
            "电池仓里有棕色液体流出来，疑似漏液",
            "才用几个月电池就鼓包漏液了",
            "换电池时发现旧电池漏了，弹簧生锈",
        ),
        "fingerprint_fault": (
            "指纹头按了没反应，灯也不亮",
            "指纹模块坏了，重新录入提示失败",
            "指纹一直识别不了，擦干净也没用",
        ),
        "motor_stall": ("电机转一半就停，锁舌伸不出来", "开锁时电机嗡嗡响但是转不动", "电机卡死，反复报警"),
        "wifi_drop": ("门锁 WiFi 一天掉线好几次", "网关在旁边也连不上网，显示离线", "WiFi 模块坏了，配网一直失败"),
        "keypad_fault": ("密码键盘 2 和 5 按不动", "触摸键盘全部失灵", "键盘乱跳数字，密码输不进去"),
        "mechanical_jam": ("锁体卡住，钥匙也拧不动", "斜舌卡死弹不出来，门关不上", "把手下压很重，机械部分卡滞"),
        "no_power": ("门锁突然没电，屏幕不亮", "完全没反应，接充电宝应急才能开", "换了新电池还是没电"),
        "battery_drain": ("电池掉电太快，两周就提示低电量", "电量三天从 80% 掉到 10%", "一个月换了两次电池"),
        "fingerprint_not_read": ("指纹识别不灵敏，要按很多次", "老人和小孩的指纹总是读不出", "早上指纹开不了门"),
        "wont_unlock": ("门打不开，人被锁在外面", "验证通过了但是锁没打开", "提示已开锁，实际没动"),
        "motor_noise": ("开锁声音很大，像打磨一样", "电机有异响", "关门的时候咔咔响"),
        "offline": ("APP 显示设备离线", "远程开锁一直转圈，设备不在线", "断网之后就再也没连上"),
        "app_error": ("APP 闪退，看不了开锁记录", "升级之后 APP 提示错误码 1006", "临时密码生成失败"),
        "keypad_dead": ("键盘不亮，按了没声音", "数字键没有反应", "下雨后键盘失灵"),
        "bolt_stuck": ("锁舌卡住了缩不回去", "门关上以后锁舌弹不出来", "反锁后打不开"),
        "hardware": ("质量太差，用了不到一年坏了两次", "修了又坏，我要求换新", "产品做工粗糙，面板松动"),
        "service": (
            "客服态度很差，一直让我等",
            "预约的师傅没有来，也不打电话",
            "说好 24 小时回复，三天了没人理",
            "维修师傅弄脏了门还乱收费",
        ),
        "delivery": ("物流太慢，说好三天到，等了十天", "快递外箱破损，里面少了配件", "安装延迟，装修工期都被耽误了"),
        "operation": (
            "怎么添加新的指纹？",
            "请问怎么设置临时密码给保洁用",
            "换手机后怎么重新绑定门锁",
            "电池一般多久换一次，用什么型号",
            "离家布防在哪里打开",
        ),
        "installation": (
            "新房需要预约上门安装",
            "旧锁拆除加安装一起约周末",
            "门厚 110mm 能不能装，请师傅先看下",
            "想改约安装时间",
        ),
        "feature": (
            "建议增加夜间静音模式",
            "希望可以导出开锁记录到 Excel",
            "建议支持 HomeKit",
            "低电量提醒能不能早一点",
        ),
    },
    "en": {
        "battery_leakage": (
            "Found white powder in the battery bay, the battery is leaking",
            "Battery leaked and corroded the contacts, lock is dead",
            "Brown liquid coming out of the battery compartment",
            "The original batteries swelled and leaked after a few months",
        ),
        "fingerprint_fault": ("Fingerprint sensor is dead, no light at all", "Sensor fails to enroll any finger"),
        "motor_stall": ("Motor stops halfway and the bolt does not extend", "Motor hums but does not turn"),
        "wifi_drop": ("Wi-Fi drops several times a day", "Cannot pair with Wi-Fi any more, module seems broken"),
        "keypad_fault": ("Keys 2 and 5 do not work", "Keypad types random digits"),
        "mechanical_jam": ("Lock body is jammed, even the key won't turn", "Latch is stuck and the door won't shut"),
        "no_power": ("Lock has no power, screen is black", "Completely dead even with new batteries"),
        "battery_drain": ("Batteries last only two weeks", "Battery went from 80% to 10% in three days"),
        "fingerprint_not_read": ("Fingerprint is rarely recognized", "Needs ten tries to read my finger"),
        "wont_unlock": ("Locked out, the door will not open", "App says 'unlocked' but nothing moves"),
        "motor_noise": ("Grinding noise when unlocking", "Loud clicking when it locks"),
        "offline": ("Lock shows offline in the app", "Remote unlock times out, device not online"),
        "app_error": ("App crashes when I open the history", "Error 1006 since the last update"),
        "keypad_dead": ("Keypad does not light up", "Keypad stopped working after rain"),
        "bolt_stuck": ("Bolt is stuck and will not retract", "Deadbolt jammed after double locking"),
        "hardware": ("Broken twice in less than a year, poor quality", "Repaired and broken again, I want a new one"),
        "service": (
            "Nobody answered for three days",
            "Support was rude and kept me waiting",
            "Technician did not show up",
        ),
        "delivery": ("Parcel arrived a week late", "Box was damaged and the screws were missing"),
        "operation": (
            "How do I add another fingerprint?",
            "How can I set a temporary code for the cleaner?",
            "How to move the lock to a new phone?",
            "Which batteries should I use?",
        ),
        "installation": ("Need an appointment for installation", "Does it fit a 110 mm door?"),
        "feature": (
            "Please add a silent mode at night",
            "Would love to export the history to Excel",
            "Please support HomeKit",
        ),
    },
}
OPENERS = {
    "zh": ("", "", "您好，", "客服你好！", "急！！", "来电反映：", "客户描述: ", "你好,\n", "😡 "),
    "en": ("", "", "Hi, ", "Hello team,\n", "URGENT: ", "Dear support, ", "Hey 😕 "),
}
CLOSERS = {
    "zh": (
        "",
        "。",
        "。请尽快处理",
        "，希望尽快上门，谢谢！",
        "。\n已让客户拍照，待回传",
        '；客户说"再不解决就投诉"',
        "。家里有老人，着急😭",
        ", 联系方式{phone}",
        "，回电 {phone}，晚上 7 点后方便",
        "。\n1. 已重启\n2. 已换电池\t无效",
    ),
    "en": (
        ".",
        ". Please advise, thanks!",
        '. I already tried a reset, "factory reset" too',
        ".\nPhoto attached.",
        ".\n\nBest regards\nJ., call {phone}",
        ", third time this year 😠",
        ". Bought it on Amazon;\tserial is on the label",
    ),
}
MODE_NAMED_SHARE = 0.6  # of the customers with a confirmed failure describe the failure itself, the others its symptom


def _filled(rng: np.random.Generator, texts: np.ndarray) -> np.ndarray:
    """The texts with made-up phone numbers (fixed fake pattern 138-0000-xxxx) in their places."""
    with_phone = np.flatnonzero(["{phone}" in text for text in texts])
    numbers = rng.integers(0, 10_000, len(with_phone))
    for place, number in zip(with_phone, numbers, strict=True):
        texts[place] = texts[place].replace("{phone}", f"138-0000-{number:04d}")
    return texts


def _chosen(rng: np.random.Generator, options: tuple[str, ...], size: int) -> np.ndarray:
    return np.array(options, dtype=object)[rng.integers(0, len(options), size)]


def topics(rng: np.random.Generator, tickets: pd.DataFrame) -> np.ndarray:
    """The topic each customer writes about: the failure itself, its symptom, or the issue of the other types."""
    symptom = tickets["symptom_code"].astype(object).to_numpy()
    mode = tickets["failure_mode"].astype(object).to_numpy()
    named = tickets["failure_mode"].notna().to_numpy() & (rng.random(len(tickets)) < MODE_NAMED_SHARE)
    is_fault = (tickets["ticket_type"] == "fault").to_numpy()
    return np.where(named, mode, np.where(is_fault, symptom, tickets["issue_type"].astype(object).to_numpy()))


def written_texts(rng: np.random.Generator, tickets: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Subjects and descriptions in the language of each ticket; some of several lines, with quotes or emojis."""
    topic, language = topics(rng, tickets), tickets["language"].astype(object).to_numpy()
    subject = np.full(len(tickets), "", dtype=object)
    body = subject.copy()
    for tongue, about in sorted(set(zip(language, topic, strict=True))):
        rows = np.flatnonzero((language == tongue) & (topic == about))
        subject[rows] = _chosen(rng, PHRASES[tongue][about], len(rows))
        again = _chosen(rng, PHRASES[tongue][about], len(rows))
        body[rows] = _chosen(rng, OPENERS[tongue], len(rows)) + again + _chosen(rng, CLOSERS[tongue], len(rows))
    return subject, _filled(rng, body)


COMMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {
        "good": ("很满意", "师傅很专业👍", "回复快，解决了"),
        "bad": ("太慢了", "没有解决问题", "等了很久，\n不满意"),
    },
    "en": {"good": ("Great help", "Fast and friendly 👍"), "bad": ("Took too long", 'Still not "fixed"')},
}


def survey_comments(rng: np.random.Generator, languages: np.ndarray, is_good: np.ndarray) -> np.ndarray:
    """A comment for about every third answer, empty for the rest."""
    comment = np.full(len(languages), "", dtype=object)
    writes = rng.random(len(languages)) < 0.3
    for language, by_mood in COMMENTS.items():
        for mood, options in by_mood.items():
            rows = np.flatnonzero(writes & (languages == language) & (is_good == (mood == "good")))
            comment[rows] = _chosen(rng, options, len(rows))
    return comment
