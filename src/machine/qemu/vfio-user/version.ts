// VERSION: what the client proposes, checked, and what both sides then hold to.
import * as v from "valibot";
import { DESCRIPTORS_MAX } from "./channel.ts";
import { Fields } from "./fields.ts";
import { DATA_BYTES_MAX, DMA_MAPS_MAX, PAGE_BYTES, VERSION_MAJOR, VERSION_MINOR } from "./protocol.ts";

/** What the client can take from us. */
export interface ClientLimits {
  readonly minor: number;
  /** Bytes of data in one message. */
  readonly dataBytesMax: number;
  readonly descriptorsMax: number;
}

export type Negotiation =
  | { readonly kind: "agreed"; readonly client: ClientLimits; readonly reply: Uint8Array }
  /** The connection is to be closed; `problem` is a sentence that says why. */
  | { readonly kind: "refused"; readonly problem: string };

/** Major and minor, before the JSON. */
const FIXED_BYTES = 4;
/** Real clients send some 200. */
const PROPOSAL_BYTES_MAX = 4096;
/** What a side that says nothing can take ("Capabilities"). */
const DESCRIPTORS_DEFAULT = 1;
const DATA_BYTES_DEFAULT = 1_048_576;

const count = (min: number): v.GenericSchema<number> => v.pipe(v.number(), v.integer(), v.minValue(min));
const hasOurPages = (sizes: number): boolean => Math.floor(sizes / PAGE_BYTES) % 2 === 1;

const capabilitiesSchema = v.object({
  max_msg_fds: v.optional(count(0)),
  max_data_xfer_size: v.optional(count(8)),
  max_dma_maps: v.optional(count(1)),
  pgsizes: v.optional(v.pipe(v.number(), v.check(hasOurPages, "pages of 4096 bytes are not among them"))),
  write_multiple: v.optional(v.boolean()),
});
type Capabilities = v.InferOutput<typeof capabilitiesSchema>;
const proposalSchema = v.object({ capabilities: v.optional(capabilitiesSchema) });

/**
 * Looks at the payload of the client's VERSION. Names we do not know are left alone; the reply names only what the
 * client named. Twin sockets are not offered: the server never waits for a reply, so one stream cannot deadlock.
 */
export function negotiate(payload: Uint8Array): Negotiation {
  if (payload.length < FIXED_BYTES) return refused("its VERSION message is too short");
  if (payload.length > PROPOSAL_BYTES_MAX) return refused(`its VERSION message has ${payload.length} bytes`);
  const fields = new Fields(payload);
  const major = fields.u16(0);
  if (major !== VERSION_MAJOR) return refused(`it speaks version ${major} of the protocol, not ${VERSION_MAJOR}`);
  const proposed = readCapabilities(payload.subarray(FIXED_BYTES));
  if (typeof proposed === "string") return refused(proposed);
  const minor = Math.min(fields.u16(2), VERSION_MINOR);
  return {
    kind: "agreed",
    client: {
      minor,
      dataBytesMax: Math.min(proposed.max_data_xfer_size ?? DATA_BYTES_DEFAULT, DATA_BYTES_MAX),
      descriptorsMax: proposed.max_msg_fds ?? DESCRIPTORS_DEFAULT,
    },
    reply: encodeReply(minor, answer(proposed)),
  };
}

/** The capabilities, or what is wrong with them. */
function readCapabilities(json: Uint8Array): Capabilities | string {
  if (json.length === 0) return {};
  if (json.at(-1) !== 0) return "the JSON of its VERSION message does not end in a zero byte";
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json.subarray(0, -1)));
  } catch {
    return "its VERSION message does not hold JSON";
  }
  const checked = v.safeParse(proposalSchema, parsed, { abortEarly: true });
  if (checked.success) return checked.output.capabilities ?? {};
  const [issue] = checked.issues;
  return `the ${v.getDotPath(issue) ?? "JSON"} of its VERSION message is wrong: ${issue.message}`;
}

/** Ours, of the names that the client gave: the reply's list is a subset of the request's. */
function answer(proposed: Capabilities): Capabilities {
  const ours: Required<Capabilities> = {
    max_msg_fds: DESCRIPTORS_MAX,
    max_data_xfer_size: DATA_BYTES_MAX,
    max_dma_maps: DMA_MAPS_MAX,
    pgsizes: PAGE_BYTES,
    write_multiple: proposed.write_multiple === true,
  };
  return Object.fromEntries(Object.entries(ours).filter(([name]) => Object.hasOwn(proposed, name)));
}

function encodeReply(minor: number, capabilities: Capabilities): Uint8Array {
  const json = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  const reply = new Uint8Array(FIXED_BYTES + json.length);
  new Fields(reply).setU16(0, VERSION_MAJOR).setU16(2, minor);
  reply.set(json, FIXED_BYTES);
  return reply;
}

function refused(problem: string): Negotiation {
  return { kind: "refused", problem };
}
