// The seams of the VF: where its frames go to and come from. The VF knows no machine and no network.

/** Takes whole Ethernet frames without FCS. The callee copies what it keeps. */
export interface FrameSink {
  frame(bytes: Uint8Array): void;
}

/** A sink that drops everything, for a VF whose cable is out. */
export const noFrameSink: FrameSink = { frame() {} };
