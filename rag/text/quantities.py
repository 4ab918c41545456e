"""English words for numbers and units of time that several modules recognize."""

# In order: "one" is at index 0.
NUMBER_WORDS = tuple("one two three four five six seven eight nine ten eleven twelve".split())
# Spellings of the units of time from an hour on.
TIME_UNITS = {
    "hours": ("h", "hr", "hrs", "hour", "hours"),
    "days": ("day", "days"),
    "weeks": ("week", "weeks"),
    "months": ("month", "months"),
    "years": ("year", "years"),
}
