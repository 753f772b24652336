// Starting the fabric process from its parent.
import { Child } from "./child-rpc.ts";
import type { FabricEvent, FabricMethods } from "./fabric-messages.ts";

export type Fabric = Child<FabricMethods, FabricEvent>;

export interface FabricOptions {
  /** Folder for the cables' sockets, which exists. Hosts plug in at `cablePath(directory, cable)`. */
  readonly directory: string;
  /** Names of the ports for hosts. */
  readonly cables: readonly string[];
  readonly seed: number;
  readonly onEvent?: (event: FabricEvent) => void;
}

/** Starts the fabric and waits until hosts can plug in. Rejects with `socket-path-unusable` or `port-exists`. */
export async function startFabric(options: FabricOptions): Promise<Fabric> {
  const { directory, cables, seed, onEvent } = options;
  const module = new URL("./fabric-process.ts", import.meta.url);
  const fabric: Fabric = new Child({ name: "fabric", module, onEvent: onEvent ?? ((): void => undefined) });
  try {
    await fabric.call("start", { directory, cables: [...cables], seed });
  } catch (error) {
    await fabric.close();
    throw error;
  }
  return fabric;
}
