"""What columns are called that hold items, itemsets, or neither."""

from __future__ import annotations

import re
import shlex

_ITEMS = (
    r"(item|product|article|movie|film|artist|track|song|book|place|poi|location|venue)s?"
    r"([ _]?(id|ids|code|number|no|uri))?|asin|sku|stock[ _]?code|item[ _]?id[ _]?list|商品編號"
)
_ITEMSETS = (
    r"(session|order|basket|invoice|transaction|trans|user|customer|reviewer|playlist|receipt)s?"
    r"([ _]?(id|code|number|no))?|會員卡號"  # as Ta-Feng's data have it
)
_OTHERS = (
    rf"|index|unnamed: \d+|.*(date|time|timestamp|_dt)|day|ratings?|quantity|qty|amount|price|"
    rf"categor(y|ies)([ _]?id)?|{_ITEMSETS}"
)


def is_item_name(name: str) -> bool:
    """Whether a column of this name holds items."""
    return re.fullmatch(_ITEMS, name.strip().partition(":")[0].lower()) is not None


def is_itemset_name(name: str) -> bool:
    """Whether a column of this name says which itemset."""
    return re.fullmatch(_ITEMSETS, name.strip().partition(":")[0].lower()) is not None


def is_no_item_name(name: str) -> bool:
    """Whether a column of this name holds no items, but numbers of rows, moments or users."""
    return re.fullmatch(_OTHERS, name.strip().lower()) is not None


def suggestion(names: list[str]) -> str:
    """Say which columns are called like those of itemsets and items, if there are both."""
    itemset = next(filter(is_itemset_name, names), None)
    item = next(filter(is_item_name, names), None)
    if itemset is None or item is None:
        return ""
    typed = f"--itemset {shlex.quote(itemset)} --item {shlex.quote(item)}"
    return f", such as itemset={itemset!r}, item={item!r} ({typed})"
