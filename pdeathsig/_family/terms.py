"""How a member binds what it starts."""


class Terms:
    """Signal, grace and scope, as ``PDEATHSIG`` and ``PDEATHSIG_SCOPE`` say."""

    __slots__ = ("arms_at_start", "grace", "scope", "sig")

    def __init__(self, sig: int, grace: "float | None", scope: str, arms_at_start: bool) -> None:
        self.sig, self.grace, self.scope = sig, grace, scope
        self.arms_at_start = arms_at_start
        """Whether another run of this Python arms itself: site has started us."""

    @property
    def gives_guards(self) -> bool:
        """Whether programs that do not arm themselves get a guard."""
        return (self.grace, self.scope) != (None, "child")
