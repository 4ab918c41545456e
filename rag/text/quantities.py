"""Words for numbers and units that several modules recognise in English text."""

# In order: "one" is at index 0.
NUMBER_WORDS = tuple("one two three four five six seven eight nine ten eleven twelve".split())
# Spellings of the units of time from an hour on, singular and plural.
HOURS = ("h", "hr", "hrs", "hour", "hours")
CALENDAR_UNITS = ("day", "days", "week", "weeks", "month", "months", "year", "years")
