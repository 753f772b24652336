// The migration protocol: what source and destination say to each other, in which order, and what each message means.
//
// One byte stream, framed (frame.ts). The source talks nearly all the time; the destination answers four questions:
// do we share a version, do you take this machine, have you loaded it, does it run. Exactly one side runs the guest,
// and the messages are cut so that both sides know at every byte which one that is.
//
//   source                                                     destination
//     | hello {1..1, capabilities} ------------------------------> |
//     | <------------------------- hello-ack {version, capabilities} |  or error version-unsupported
//     | offer {migration, machine, memory, strategy, VF} ---------> |
//     | <--------------------------------------------------- accept |  or error <refusal>
//     | pages* zero-pages* round-end {dirty after} ---------------> |  pre-copy: once per round, guest runs here
//     |   ... vCPUs pause ...                                       |
//     | pages* zero-pages* round-end, vf-state*, machine-state* --> |  switchover, in the order the strategy wants
//     | end-of-state ---------------------------------------------> |
//     | <---------------------------------------- ready {partsMs}   |  everything loaded, guest stands still
//     | go -------------------------------------------------------> |  the point of no return, for the source
//     | <--------------------------------------------------- running |  the destination's last word
//     | goodbye --------------------------------------------------> |
//
// Before `go` the guest is the source's: whatever breaks, it puts its dirty bits back and resumes. From the moment it
// has sent `go` it never resumes by itself. It may do so only when told: by `error` or `abort` from the destination,
// which the destination sends only if it does not run the guest and never will; or on a new connection, where
// `outcome` says `discarded`. The destination that has received `go` runs the guest even if the link breaks just then.
// So after a broken link the source connects again and asks:
//
//     | hello, hello-ack                                            |
//     | query-outcome {migration} --------------------------------> |
//     | <-------------------------------- outcome {running|discarded|unknown} |
//     | goodbye --------------------------------------------------> |
//
// Asking is itself an event: a destination that has loaded everything but has not seen `go` discards the guest before
// it answers `discarded`, so that the answer stays true. `unknown` (it was restarted, or is another destination)
// tells nothing, and a person decides.
//
// Both sides go through the same states; legal.ts holds the whole table, and docs/PROTOCOL.md prints it.
//
//   greeting --hello--> greeted --hello-ack--> negotiated --offer--> offered --accept--> pre-copy <-+ pages, zero-pages,
//                                                |      ^                                    | |____|  round-end
//                                   query-outcome|      |outcome             vf-state,       |
//                                                v      |                    machine-state   v
//                                               queried-+                              switchover (pages etc. as well)
//                                                                                            | end-of-state
//   done <--goodbye-- running <--running-- committed <--go-- ready <--ready-- loading <------+
//
//   any state before committed --abort, error--> failed      committed --destination's abort, either's error--> failed
//
// Source and destination see the same order of state-changing messages, because in every state only one of them may
// send such a message. The exceptions are `abort` and `error`, which may cross anything: whoever has sent one reads on
// only to empty the pipe and looks at nothing.
//
// Versions. `hello` names the range of protocol versions and the capabilities the source can do, `hello-ack` picks one
// version and the subset of capabilities both can do. The frame header, `hello`, `hello-ack`, `error`, `abort`
// and `keepalive` never change; any other message may in a new version. A capability is a name for something that may be left out
// (compression, several connections); TLS is no capability, it lies below the stream. Versions of the saved state of the
// machine and of the VF are not protocol versions: `offer` names them, and the destination refuses what it cannot load.
//
// Trust. The bytes are hostile until proven harmless: lengths are bounded by type and state before anything is
// allocated, reserved bits are zero, every accepted message has exactly one encoding, text is free of control
// characters, and pages are inside the offered memory. Authentication is TLS's business, not this protocol's.
import type { MachineKind } from "../../machine/machine.ts";
import type { ErrorFacts } from "../../base/errors.ts";

/** The two ends of a migration. */
export type Role = "source" | "destination";

/** Inclusive range of protocol versions. */
export interface VersionRange {
  readonly minVersion: number;
  readonly maxVersion: number;
}

/** What this program speaks. */
export const protocolVersions: VersionRange = { minVersion: 1, maxVersion: 1 };

/** Identity of one migration attempt: 16 random bytes, written as 32 lower-case hexadecimal digits. */
export type MigrationId = string & { readonly [migrationIdBrand]: true };
declare const migrationIdBrand: unique symbol;

/** Source's first word. */
export interface Hello extends VersionRange {
  readonly kind: "hello";
  /** Kebab-case names, at most 32, sorted, no repeats. */
  readonly capabilities: readonly string[];
  /** Name and version of the program, for logs only. */
  readonly program: string;
}

/** Destination's choice: one version within the source's range, capabilities that both have. */
export interface HelloAck {
  readonly kind: "hello-ack";
  readonly version: number;
  readonly capabilities: readonly string[];
  readonly program: string;
}

/** What the source wants to move. */
export interface Offer {
  readonly kind: "offer";
  readonly migrationId: MigrationId;
  readonly machine: MachineKind;
  readonly memoryBytes: number;
  /** A power of two from 64 to 65536 that divides memoryBytes. */
  readonly pageBytes: number;
  /** Name of the strategy; the destination must know how its VF comes back. */
  readonly strategy: string;
  /** Model of the VF and the version of its saved state. */
  readonly vfModel: string;
  readonly vfStateVersion: number;
  readonly machineStateVersion: number;
  readonly queuePairs: number;
  /** Six hexadecimal bytes in lower case with colons. */
  readonly mac: string;
  /** Base64, for the destination's machine alone: what lets it do early what would else be done while the guest stands. */
  readonly machineHint?: string;
}

/** The destination has room for the offered machine and is able to load its state. */
export interface Accept {
  readonly kind: "accept";
}

/**
 * Pages with their bytes. In a decoded message both arrays are views (into the received chunk where the frame lies in
 * one chunk) and good only until the handler returns.
 */
export interface Pages {
  readonly kind: "pages";
  /** Rounds count from 1. */
  readonly round: number;
  readonly pageBytes: number;
  /** 1 to 256 page numbers, strictly ascending. */
  readonly pages: Uint32Array;
  /** The pages' bytes one after another: pages.length × pageBytes. */
  readonly bytes: Uint8Array;
}

/** Pages that hold nothing but zeros. */
export interface ZeroPages {
  readonly kind: "zero-pages";
  readonly round: number;
  /** Pairs of first page and number of pages, 1 to 1024 pairs, ascending, not overlapping. A view, as in Pages. */
  readonly ranges: Uint32Array;
}

/** The round is over. The receiver holds the counts against what it got. */
export interface RoundEnd {
  readonly kind: "round-end";
  readonly round: number;
  /** Pages sent with bytes in this round; a page sent twice counts twice. */
  readonly pages: number;
  /** Pages sent as zero in this round. */
  readonly zeroPages: number;
  /** Pages known to be dirty when the round ended: what the next round starts with. */
  readonly dirtyAfter: number;
}

/** A part of an opaque state. Parts come in order without gaps. `bytes` is a view, as in Pages. */
interface StatePart {
  /** Bytes of the whole state, the same in every part, at least 1. */
  readonly totalBytes: number;
  /** Where this part begins: the sum of the parts before. */
  readonly offset: number;
  /** 1 byte to 1 MiB. */
  readonly bytes: Uint8Array;
}

/** CPU and platform state without RAM, at most 64 MiB in all. */
export interface MachineState extends StatePart {
  readonly kind: "machine-state";
}

/** The VF's saved state, at most 1 MiB in all. */
export interface VfState extends StatePart {
  readonly kind: "vf-state";
}

/** Everything has been sent. */
export interface EndOfState {
  readonly kind: "end-of-state";
  readonly machineStateBytes: number;
  /** 0 when the strategy carries no VF state. */
  readonly vfStateBytes: number;
}

/** Everything has been loaded; the guest stands still on the destination. */
export interface Ready {
  readonly kind: "ready";
  /** Milliseconds per part of the work; names in camel case, at most 32. */
  readonly partsMs: Readonly<Record<string, number>>;
}

/** The guest is the destination's. */
export interface Go {
  readonly kind: "go";
}

/** The guest runs on the destination. */
export interface Running {
  readonly kind: "running";
}

/** The source has let go of the guest (or has no more questions) and closes. */
export interface Goodbye {
  readonly kind: "goodbye";
}

/** A decision to stop, not a failure: a person cancelled, or the migration does not converge. */
export interface Abort {
  readonly kind: "abort";
  /** Kebab-case, stable. */
  readonly code: string;
  readonly message: string;
}

/** A failure, with the parts of an OperationError. */
export interface ErrorMessage {
  readonly kind: "error";
  readonly code: string;
  readonly message: string;
  readonly advice: string;
  readonly facts: ErrorFacts;
}

export interface QueryOutcome {
  readonly kind: "query-outcome";
  readonly migrationId: MigrationId;
}

export const outcomes = ["running", "discarded", "unknown"] as const;

export interface Outcome {
  readonly kind: "outcome";
  readonly migrationId: MigrationId;
  readonly outcome: (typeof outcomes)[number];
}

/** Sent when there was nothing to say for a while, so that silence means a dead peer. */
export interface Keepalive {
  readonly kind: "keepalive";
}

export type Message =
  | Hello
  | HelloAck
  | Offer
  | Accept
  | Pages
  | ZeroPages
  | RoundEnd
  | MachineState
  | VfState
  | EndOfState
  | Ready
  | Go
  | Running
  | Goodbye
  | Abort
  | ErrorMessage
  | QueryOutcome
  | Outcome
  | Keepalive;

export type MessageKind = Message["kind"];
export type MessageOf<Kind extends MessageKind> = Extract<Message, { kind: Kind }>;
