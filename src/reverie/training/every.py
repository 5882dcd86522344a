"""When something is due, by agent steps."""


class Every:
    """Due at the first question, and then once for every `period` steps (SPEC 42; golden file 16).

    When several environments are stepped together the count of steps makes jumps; nothing that falls due within one is
    lost, so that ratios do not depend on the number of environments.
    """

    def __init__(self, period: int, last: int | None = None) -> None:
        """`period` 0 is never due; `last` is the state of an earlier one."""
        self.period = period
        self.last = last

    def __call__(self, step: int) -> int:
        """How many times it is due at this step."""
        if self.period == 0:
            return 0
        if self.last is None:
            self.last = step
            return 1
        times = max(0, (step - self.last) // self.period)
        self.last += times * self.period
        return times

    def until(self, step: int) -> int:
        """Steps from here until it is due again; 0 before the first question, and for what is never due."""
        return 0 if self.last is None or self.period == 0 else max(0, self.last + self.period - step)
