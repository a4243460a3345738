"""What can be wrong with a message. Each error names the field or type, never the payload."""


class ContractError(ValueError):
    """A message breaks its contract."""


class MalformedMessage(ContractError):
    """The bytes do not decode as the type they claim to be."""


class UnknownSchema(ContractError):
    """The type or its version is not one this release reads."""

    def __init__(self, type_name: str) -> None:
        super().__init__(f"no contract for type {type_name!r}")
        self.type_name = type_name
