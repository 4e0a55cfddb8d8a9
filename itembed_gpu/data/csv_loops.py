"""Loops over the bytes of CSV files, in Numba: fields and records as Python's csv module has them.

A field that begins with a quote goes to the next single quote, whatever lies between; elsewhere a
quote is text. Lines end with a line feed, a carriage return, or both; empty ones are no records.
"""

from __future__ import annotations

import numpy as np

from ..compiling import kept

LINE_FEED, RETURN = 10, 13
# Bytes that are looked through at once.
BLOCK = 1 << 12

# Where in a record `transcribe` is.
START, FIELD_START, FIELD, QUOTED, QUOTE_IN_QUOTED, AFTER_RETURN = range(6)
# What it keeps from one piece to the next: see `transcribe`.
STATE, FIELDS, LINE, OPENED, RETURNS, ERROR, ERROR_FIELDS = range(7)
NUM_KEPT = 7
# What it may find wrong.
WIDTH, TEXT_AFTER_QUOTE, ZERO_BYTE = 1, 2, 3


@kept(nogil=True)
def look_through(data, separator, quote, width, inside, fields):
    """Find what a reader that takes every quote for one of a pair would read otherwise.

    That is a quote that neither begins nor ends a field, and a zero byte; and outside of quotes, a
    carriage return alone, an empty line, or a record of another width. Whole blocks only, in steps
    that compilers turn into a few instructions for many bytes.

    Parameters
    ----------
    data : uint8, 2 + num_byte
        The two bytes before the first, and a multiple of `BLOCK`.
    separator, quote : uint8
    width : int
        Number of fields of a record.
    inside : bool
        Whether the first byte is in quotes.
    fields : int
        Separators before it, of the same record.

    Returns
    -------
    odd : bool
        Whether there is any.
    inside, fields
        The same for what comes next.
    """
    zero, one, three = np.uint8(0), np.uint8(1), np.uint8(3)
    feed, back = np.uint8(LINE_FEED), np.uint8(RETURN)
    # Of each byte: 1 if it is odd outside of quotes, and 2 if it is odd anywhere.
    odd_there, quote_there = np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.uint8)
    # Of each byte: 1 if it ends a field, and 3 if it ends a record.
    end_there, ends = np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.uint8)
    odd_words, quote_words = odd_there.view(np.uint64), quote_there.view(np.uint64)
    end_words = end_there.view(np.uint64)
    all_bytes = np.uint64(0x0101010101010101)
    odd, within = np.uint64(0), np.uint64(inside)
    for start in range(0, len(data) - 2, BLOCK):
        here = data[start + 2 : start + 2 + BLOCK]
        one_back, two_back = data[start + 1 : start + 1 + BLOCK], data[start : start + BLOCK]
        for n in range(BLOCK):
            byte, last = here[n], one_back[n]
            is_quote, is_feed = np.uint8(byte == quote), np.uint8(byte == feed)
            is_separator = np.uint8(byte == separator)
            was_feed, was_back = np.uint8(last == feed), np.uint8(last == back)
            may_follow = is_feed | is_quote | is_separator | np.uint8(byte == back)
            may_precede = was_feed | np.uint8(last == separator)
            was_quote = np.uint8(last == quote)
            bad_end = was_quote & (may_follow ^ one)
            bad_start = (was_quote ^ one) & is_quote & (may_precede ^ one)
            empty = is_feed & (was_feed | (was_back & np.uint8(two_back[n] == feed)))
            odd_there[n] = bad_end | bad_start | empty | (was_back & (is_feed ^ one))
            odd_there[n] |= np.uint8(byte == zero) << one
            quote_there[n] = is_quote
            end_there[n] = is_separator | (is_feed * three)
        for n in range(BLOCK // 8):
            # Of eight bytes: whether an odd number of quotes lies before and at each.
            pairs = quote_words[n]
            pairs ^= pairs << np.uint64(8)
            pairs ^= pairs << np.uint64(16)
            pairs ^= pairs << np.uint64(32)
            outside = (pairs ^ quote_words[n] ^ (all_bytes * within)) ^ all_bytes
            odd |= (odd_words[n] & outside) | (odd_words[n] >> np.uint64(1) & all_bytes)
            end_words[n] &= outside * np.uint64(3)
            within ^= pairs >> np.uint64(56)
        num_end = 0
        for n in range(BLOCK):
            ends[num_end] = end_there[n]
            num_end += end_there[n] & one
        for n in range(num_end):
            fields += 1
            if ends[n] == three:
                odd |= np.uint64(fields != width)
                fields = 0
    return odd != 0, within != 0, fields


@kept(nogil=True)
def transcribe(data, separator, quote, width, kept, out, new):
    """Copy the fields of more bytes without their quotes, between bytes that are in none of them.

    Stops at what is wrong: a record of other than ``width`` fields, text after a quote that
    closes, or a zero byte.

    Parameters
    ----------
    data : uint8, num_byte
    separator, quote : int
        A quote of -1 is none.
    width : int
        Number of fields of a record.
    kept : int64, NUM_KEPT
        Updated in place: the state; the fields of this record that are complete; the number of
        the line; that of the line with the last quote that opened; the number of returns in
        fields; what is wrong, if anything; and how many fields there are, if that is it.
    out : uint8
        What is written; a record ends with a field of one point.
    new : int, 3
        What is written for separators, ends of records, and carriage returns in fields.

    Returns
    -------
    size : int
        Number of bytes written.
    """
    state, fields, size = kept[STATE], kept[FIELDS], 0
    new_separator, new_end, new_return = new
    for byte in data:
        if byte == 0:
            kept[ERROR] = ZERO_BYTE
            break
        if state == AFTER_RETURN:
            state = START
            kept[LINE] += 1
            if byte == LINE_FEED:
                continue
        is_end = byte in (LINE_FEED, RETURN)
        if state == QUOTED:
            if byte == quote:
                state = QUOTE_IN_QUOTED
                continue
            kept[LINE] += byte == LINE_FEED
            if byte == RETURN:
                byte = new_return
                kept[RETURNS] += 1
        elif state == START and is_end:
            state = AFTER_RETURN if byte == RETURN else START
            kept[LINE] += byte == LINE_FEED
            continue
        elif byte == quote and state != FIELD:
            if state != QUOTE_IN_QUOTED:
                kept[OPENED] = kept[LINE]
                state = QUOTED
                continue
            state = QUOTED
        elif byte == separator:
            fields += 1
            byte, state = new_separator, FIELD_START
        elif is_end:
            if fields + 1 != width:
                kept[ERROR], kept[ERROR_FIELDS] = WIDTH, fields + 1
                break
            out[size], out[size + 1], out[size + 2] = new_separator, 46, new_end
            size += 3
            kept[LINE] += byte == LINE_FEED
            state, fields = (AFTER_RETURN if byte == RETURN else START), 0
            continue
        elif state == QUOTE_IN_QUOTED:
            kept[ERROR] = TEXT_AFTER_QUOTE
            break
        else:
            state = FIELD
        out[size] = byte
        size += 1
    kept[STATE], kept[FIELDS] = state, fields
    return size
