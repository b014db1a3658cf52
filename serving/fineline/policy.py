"""Policies: calibrated scores to ``allow``, ``review`` or ``block``.

A policy states what is done with a flagged label and how its thresholds are to be chosen on development data; the
thresholds themselves belong to a bundle, because they depend on the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

from fineline.config import build, read_toml
from fineline.errors import ConfigError
from fineline.taxonomy import STATE_INTEREST, Taxonomy, load_taxonomy

POLICIES = Path(__file__).with_name("policies")
DEFAULT_POLICY = "cn_measures"


class Action(StrEnum):
    """What a caller should do with a text, mildest first."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One policy.

    Attributes:
        name: Id used in requests.
        title: Short title.
        title_zh: The same in Chinese.
        description: What it is for.
        description_zh: The same in Chinese.
        beta: Weight of recall in the F-score that chooses thresholds.
        max_lawful_flagged: Highest share of lawful development texts that the policy may flag, by any label; texts that
            were aimed at what a model got wrong do not count.
        default_action: Action for a flagged label without an entry in ``actions``.
        actions: Action by label.
    """

    name: str
    title: str
    title_zh: str
    description: str
    description_zh: str
    beta: float
    max_lawful_flagged: float
    default_action: str
    actions: dict[str, str] = field(default_factory=dict)

    def action(self, flagged: Mapping[str, float] | tuple[str, ...]) -> Action:
        """The strictest action that the flagged labels ask for."""
        asked = {Action(self.actions.get(label, self.default_action)) for label in flagged}
        return next((a for a in (Action.BLOCK, Action.REVIEW) if a in asked), Action.ALLOW)

    def extended(self, taxonomy: Taxonomy) -> "Policy":
        """This policy with the actions that a team states for its labels, where the policy names none for them."""
        own = {label.id: label.action for label in taxonomy.own if label.action is not None}
        return replace(self, actions=own | self.actions)


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        ConfigError: A key, label or action is unknown, or a state-interest label would be blocked by a score alone.
    """
    policy = build(Policy, read_toml(path), path.name)
    if unknown := set(policy.actions) - set(load_taxonomy().ids):
        raise ConfigError("policy_label", f"{path.name}: actions names the unknown label '{min(unknown)}'.")
    for action in (policy.default_action, *policy.actions.values()):
        if action not in tuple(Action):
            raise ConfigError("policy_action", f"{path.name}: action '{action}' is not allow, review or block.")
    for label in STATE_INTEREST:
        if policy.actions.get(label, policy.default_action) != Action.REVIEW:
            raise ConfigError(
                "policy_state_interest", f"{path.name}: '{label}' must be 'review': a person decides, not a score."
            )
    return policy


@cache
def load_policies() -> dict[str, Policy]:
    """The policies that ship with the package, by name."""
    found = [read_policy(path) for path in sorted(POLICIES.glob("*.toml"))]
    return {policy.name: policy for policy in found}


def get_policy(name: str) -> Policy:
    """A shipped policy by name.

    Raises:
        ConfigError: There is none of that name.
    """
    try:
        return load_policies()[name]
    except KeyError:
        known = ", ".join(sorted(load_policies()))
        raise ConfigError("policy_unknown", f"There is no policy of that name; known policies: {known}.") from None
