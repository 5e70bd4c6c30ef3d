"""A list that is stored item by item, in a tree that grows with it.

Where each version of a list named all of its items, a thousand versions would hold half a million names. So runs of
items are gathered into nodes, runs of nodes into nodes of the next level, and so on; a version names what is not in a
run yet, at each level. Where a run ends is decided by the names in it alone. So a list that grows shares all of its
nodes with the version before, and one that changes in the middle or at its front shares those beyond. (Known as a
content-defined or "prolly" tree.)
"""

from collections.abc import Callable, Sequence

SHORTEST, LONGEST = 3, 64
ENDS = 80
"""A run ends at a name whose first byte is below this, of 256: with 3 names, and about 2 more."""


def twist(
    names: Sequence[bytes], digest: Callable[[bytes], bytes]
) -> tuple[list[list[bytes]], dict[bytes, list[bytes]]]:
    """The names that stand for a list of items, and the nodes that they use.

    Returns:
        The names that are in no run, for each level from the highest down to the items; and the children of each node.
    """
    levels: list[list[bytes]] = []
    nodes: dict[bytes, list[bytes]] = {}
    while True:
        above, run = [], []
        for name in names:
            run.append(name)
            if (name[0] < ENDS and len(run) >= SHORTEST) or len(run) == LONGEST:
                node = digest(b"".join(run))
                nodes[node] = run
                above.append(node)
                run = []
        levels.append(run)
        if not above:
            return levels[::-1], nodes
        names = above


def untwist(levels: Sequence[Sequence[bytes]], children: Callable[[bytes], Sequence[bytes]]) -> list[bytes]:
    """The names of the items that these names stand for."""
    names: list[bytes] = []
    for level in levels:
        names = [child for name in names for child in children(name)]
        names.extend(level)
    return names
