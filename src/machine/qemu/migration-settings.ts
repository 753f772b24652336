// The capabilities and parameters that QEMU's migration needs so that its stream serves as a dirty log, and the way back.
import * as v from "valibot";
import type { QmpClient } from "./qmp.ts";

const capabilities = v.array(v.object({ capability: v.string(), state: v.boolean() }));
const parameters = v.object({
  "max-bandwidth": v.number(),
  "downtime-limit": v.number(),
  "tls-creds": v.nullish(v.string()),
  mode: v.optional(v.string()),
});

/**
 * `return-path`: QEMU waits for the destination's last word. `switchover-ack`: it does not stop the guest before the
 * destination says so, which nobody ever does: the guest is stopped by us, and then QEMU asks for no leave.
 */
const atSource: ReadonlySet<string> = new Set(["return-path", "switchover-ack"]);
/** The destination needs only to say when it has loaded everything. */
const atDestination: ReadonlySet<string> = new Set(["return-path"]);
/** Whatever else may be on without changing the stream or what QEMU does. */
const harmless: ReadonlySet<string> = new Set(["events", "validate-uuid", "late-block-activate", "dirty-bitmaps"]);
/** As much and as long as it takes, in the clear: the stream does not leave the machine. */
const plain = { "tls-creds": "", mode: "normal" };
const everything = { "max-bandwidth": 0, "downtime-limit": 60_000, ...plain };

/** Sets what the source needs and gives what sets it all back as it was. Rejects as QmpClient, with nothing set. */
export function setForDirtyLog(qmp: QmpClient): Promise<() => Promise<void>> {
  return set(qmp, atSource, everything);
}

/** Sets what the destination needs. Rejects as QmpClient. */
export async function setForArrival(qmp: QmpClient): Promise<void> {
  await set(qmp, atDestination, plain);
}

async function set(
  qmp: QmpClient,
  wanted: ReadonlySet<string>,
  values: Readonly<Record<string, string | number>>,
): Promise<() => Promise<void>> {
  const [before, all] = await Promise.all([
    qmp.execute("query-migrate-capabilities", capabilities),
    qmp.execute("query-migrate-parameters", parameters),
  ]);
  const changed = before.filter(
    ({ capability, state }) => state !== (wanted.has(capability) || (harmless.has(capability) && state)),
  );
  const known = Object.entries(all).filter(([name]) => name in values);
  const undo = async (): Promise<void> => {
    await Promise.all([
      qmp.run("migrate-set-capabilities", { capabilities: changed }),
      qmp.run("migrate-set-parameters", Object.fromEntries(known)),
    ]);
  };
  const inverted = changed.map(({ capability, state }) => ({ capability, state: !state }));
  const results = await Promise.allSettled([
    qmp.run("migrate-set-capabilities", { capabilities: inverted }),
    qmp.run("migrate-set-parameters", Object.fromEntries(known.map(([name]) => [name, values[name]]))),
  ]);
  const refused = results.find((result) => result.status === "rejected");
  if (refused === undefined) return undo;
  await undo().catch(() => {});
  throw refused.reason;
}
