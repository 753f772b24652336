// How the guest's driver helps a migration: what a driver changed for it does that stock ixgbevf does not.

/**
 * - `none`: the stock driver.
 * - `dummy-write-before`: reads a word of the next buffer and writes it back, then looks at the descriptor.
 * - `dummy-write-after`: does so once the descriptor says done, before it takes the buffer.
 * - `copy-descriptors`: dirties the buffer of a done descriptor like that, then copies the descriptor to a ring of its
 *   own in ordinary memory, and works on that copy only.
 * - `shuffle`: as dummy-write-after; and when its PF resets the VF, it keeps its rings and turns them until the
 *   hardware's heads can start at 0, where the stock driver would drop them.
 *
 * A dummy write is one word: all a dirty log wants is one write to the page, and a buffer never spans two.
 */
export const cooperations = ["none", "dummy-write-before", "dummy-write-after", "copy-descriptors", "shuffle"] as const;
export type Cooperation = (typeof cooperations)[number];

/** What the driver does to a buffer between seeing its descriptor done and taking it. */
export function dirtiesDoneBuffers(cooperation: Cooperation): boolean {
  return cooperation !== "none" && cooperation !== "dummy-write-before";
}
