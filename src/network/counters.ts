// Counters of a switch port, and the law they obey: every frame is delivered, dropped for a named cause, or still queued.

/** Why a frame, or one copy of it, went no further. */
export const dropCauses = [
  /** The port's link is down, or went down while the frame was queued. */
  "link-down",
  /** The seeded loss that was asked for. */
  "loss",
  /** The queue before a link of limited speed is full. */
  "queue-full",
  /** Too short, too long, or from a group address. */
  "malformed",
  /** For a station behind the port it came from, for a reserved group address, or no other port is up. */
  "no-way-out",
  /** The reader of the cable is too slow: its backlog is full. */
  "backlog",
  /** Handed to a cable that was pulled before the frame had gone out. */
  "unplugged",
] as const;
export type DropCause = (typeof dropCauses)[number];
export type DropCounts = Readonly<Record<DropCause, number>>;

/** One direction of a port; "in" is from the station to the switch. All counts only grow, but `queued`. */
export interface DirectionCounters {
  /** Frames that came to this direction of the link: from the cable (in) or from the switch (out). */
  readonly offered: number;
  readonly offeredBytes: number;
  /** Frames that went through: switched to at least one port (in), or put on the cable (out). */
  readonly frames: number;
  readonly bytes: number;
  readonly queued: number;
  readonly dropped: DropCounts;
}

export interface PortCounters {
  readonly name: string;
  readonly up: boolean;
  readonly in: DirectionCounters;
  readonly out: DirectionCounters;
  /** Copies made of frames that came in here: more than `in.frames` where frames were flooded. */
  readonly copies: number;
  /** Frames that the switch would have sent here, but that the port's filter did not let out. No copy was made of them. */
  readonly filtered: number;
}

export interface SwitchCounters {
  readonly ports: readonly PortCounters[];
  readonly macMoves: number;
  readonly macsKnown: number;
  /** Times a new address was not learnt because the table was full. */
  readonly macsNotLearnt: number;
}

/** A direction's counters while they grow. */
export class DirectionCounter {
  offered = 0;
  offeredBytes = 0;
  frames = 0;
  bytes = 0;
  readonly #dropped = new Map<DropCause, number>();

  offer(bytes: Uint8Array): void {
    this.offered++;
    this.offeredBytes += bytes.length;
  }

  pass(frames: number, bytes: number): void {
    this.frames += frames;
    this.bytes += bytes;
  }

  drop(cause: DropCause, frames = 1): void {
    this.#dropped.set(cause, (this.#dropped.get(cause) ?? 0) + frames);
  }

  snapshot(queued: number): DirectionCounters {
    const count = (cause: DropCause): number => this.#dropped.get(cause) ?? 0;
    const dropped = Object.fromEntries(dropCauses.map((cause) => [cause, count(cause)])) as Record<DropCause, number>;
    const { offered, offeredBytes, frames, bytes } = this;
    return { offered, offeredBytes, frames, bytes, queued, dropped };
  }
}

export function totalDropped(counters: DirectionCounters): number {
  return dropCauses.reduce((sum, cause) => sum + counters.dropped[cause], 0);
}

/**
 * Checks conservation: in each direction offered = through + dropped + queued, and the copies made at all ports are
 * the frames offered to all ports. Returns a sentence for each place where frames are missing or too many.
 */
export function conservationFaults(counters: SwitchCounters): string[] {
  const faults: string[] = [];
  let copies = 0;
  let offeredOut = 0;
  for (const port of counters.ports) {
    for (const side of ["in", "out"] as const) {
      const { offered, frames, queued } = port[side];
      const dropped = totalDropped(port[side]);
      if (offered === frames + dropped + queued) continue;
      faults.push(
        `port ${port.name} ${side}: ${offered} offered, ${frames} through, ${dropped} dropped, ${queued} queued`,
      );
    }
    copies += port.copies;
    offeredOut += port.out.offered;
  }
  if (copies !== offeredOut) faults.push(`${copies} copies were made but ${offeredOut} were offered to ports`);
  return faults;
}
