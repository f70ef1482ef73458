"""How many examples a property is tried on: ten times as many in `make test-all`."""

from hypothesis import HealthCheck, settings

EXAMPLES = 50
BUSY = HealthCheck.too_slow  # says more of the machine than of the test

for name, times in (("quick", 1), ("thorough", 10)):
    settings.register_profile(
        name,
        max_examples=times * EXAMPLES,
        deadline=None,
        suppress_health_check=[BUSY],
    )
settings.load_profile("quick")  # `--hypothesis-profile thorough` comes later


def tried(times, *checks):
    """For a property that is dear to try, and what else hypothesis need not check."""
    thorough = settings.default.max_examples // EXAMPLES
    return settings(
        max_examples=times * thorough, suppress_health_check=[BUSY, *checks]
    )
