// The steps of a schedule, each one number: whose turn it is.

/** The source's actors. From `land` on: the write in flight that lands, oldest first. */
export const Actor = { driver: 0, application: 1, receive: 2, transmit: 3, land: 4 } as const;
/** Numbers of actors are below this; writes in flight are at most this many less `land`. */
export const ACTORS_MAX = 8;
/** The engine's atomic step: the number after all actors. */
export const ENGINE = 8;

/** What a switchover does to its source. */
export const interventions = ["pause", "stop-device", "stop-transmit", "save"] as const;
export type Intervention = (typeof interventions)[number];
