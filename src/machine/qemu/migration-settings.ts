// The capabilities and parameters that QEMU's migration needs so that its stream serves as a dirty log, and the way back.
import * as v from "valibot";
import type { QmpClient } from "./qmp.ts";

const capabilities = v.array(v.object({ capability: v.string(), state: v.boolean() }));
const parameters = v.object({ "max-bandwidth": v.number(), "downtime-limit": v.number() });

/**
 * `return-path`: QEMU waits for the destination's last word. `switchover-ack`: it does not stop the guest before the
 * destination says so, which nobody ever does: the guest is stopped by us, and then QEMU asks for no leave.
 */
const wanted: ReadonlySet<string> = new Set(["return-path", "switchover-ack"]);
/** Whatever else may be on without changing the stream or what QEMU does. */
const harmless: ReadonlySet<string> = new Set(["validate-uuid", "late-block-activate", "dirty-bitmaps"]);
const everything = { "max-bandwidth": 0, "downtime-limit": 60_000 };

/** Sets what the source needs and gives what sets it all back as it was. Rejects as QmpClient. */
export async function setForDirtyLog(qmp: QmpClient): Promise<() => Promise<void>> {
  const [before, limits] = await Promise.all([
    qmp.execute("query-migrate-capabilities", capabilities),
    qmp.execute("query-migrate-parameters", parameters),
  ]);
  const changed = before.filter(
    ({ capability, state }) => state !== (wanted.has(capability) || (harmless.has(capability) && state)),
  );
  const set = (to: (state: boolean) => boolean): Promise<void> =>
    qmp.run("migrate-set-capabilities", {
      capabilities: changed.map(({ capability, state }) => ({ capability, state: to(state) })),
    });
  await Promise.all([set((state) => !state), qmp.run("migrate-set-parameters", everything)]);
  return async () => {
    await Promise.all([set((state) => state), qmp.run("migrate-set-parameters", limits)]);
  };
}

/** The destination needs only to say when it has loaded everything. Rejects as QmpClient. */
export async function setForArrival(qmp: QmpClient): Promise<void> {
  await qmp.run("migrate-set-capabilities", { capabilities: [{ capability: "return-path", state: true }] });
}
