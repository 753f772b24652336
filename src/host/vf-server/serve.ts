// `vf serve` as one call: the VF at its socket, and the control socket beside it.
import { listenForControllers } from "./control-server.ts";
import { VfServer, type VfServerOptions } from "./vf-server.ts";

export interface RunningVf {
  /** Cancels what is under way, waits for its end and takes the sockets away. */
  close(): Promise<void>;
}

/** Rejects as VfServer.listen and listenForControllers. */
export async function serveVf(options: VfServerOptions & { readonly controlPath: string }): Promise<RunningVf> {
  const server = await VfServer.listen(options);
  try {
    const hangUp = await listenForControllers(options.controlPath, server);
    return {
      async close() {
        await server.close();
        hangUp();
      },
    };
  } catch (thrown) {
    await server.close();
    throw thrown;
  }
}
