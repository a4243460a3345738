"""Errors named by what the caller does next; anything else is our own mistake and ends the process."""


class RetryLater(Exception):
    """The outside world failed: the same call again, with back-off."""


class PoisonMessage(Exception):
    """Can never succeed: to the dead-letter topic with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OwnershipLost(Exception):
    """Another process owns this work now: drop local state, commit nothing."""


class SettingsError(Exception):
    """A setting, file or argument is wrong: say so and exit with 2."""


class StoppedEarly(Exception):
    """What was waited for is not wanted any more: end. At a service's start: exit with 0."""


class SendUnknown(RetryLater):
    """A send missed its deadline; the broker may have it. Send again: readers drop duplicates."""


class ClockAhead(RetryLater):
    """The broker refused the time stamp: this host's clock runs ahead. Keep the record, raise an alarm."""


class OffsetsLost(Exception):
    """The log no longer holds what was to be read next; each reader decides where to go on."""

    def __init__(self, topic: str, partition: int, wanted: int, beginning: int) -> None:
        super().__init__(f"{topic}/{partition}: offset {wanted} is gone, the log begins at {beginning}")
        self.topic = topic
        self.partition = partition
        self.wanted = wanted
        self.beginning = beginning
