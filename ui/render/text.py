"""Numbers, counts, sizes and times as the page words them, in plain text."""

from datetime import datetime

_SECONDS_STEP = 5


def format_number(value: float, *, signed: bool = False) -> str:
    """Return a number with two decimals and a true minus sign; zero has no sign."""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    is_zero = not text.strip("+-0.")
    return "0.00" if is_zero else text.replace("-", "−")


def format_interval(low: float, high: float, *, signed: bool = False) -> str:
    """Return `0.50 to 0.70`."""
    return f"{format_number(low, signed=signed)} to {format_number(high, signed=signed)}"


def format_megabytes(size_bytes: int) -> str:
    """Return a size in whole megabytes of 1,000,000 bytes: `11 MB`."""
    return f"{size_bytes / 1e6:,.0f} MB"


def format_duration(seconds: float) -> str:
    """Return a rough duration: `40 s` in steps of five seconds, or `3 min` from 90 seconds on."""
    if seconds >= 90:
        return f"{round(seconds / 60)} min"
    steps = max(1, round(seconds / _SECONDS_STEP))
    return f"{steps * _SECONDS_STEP} s"


def format_time(moment: datetime) -> str:
    """Return date and time in the time zone of this machine: `3 Feb 2020, 04:05`."""
    local = moment.astimezone()
    return f"{local.day} {local:%b %Y, %H:%M}"


def format_p_value(p: float) -> str:
    """Return a p value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
