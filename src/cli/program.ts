// What the program is called, and which version of it this is.
import manifest from "../../package.json" with { type: "json" };

/** As typed from the project's folder. */
export const PROGRAM = "bin/underway";

export const VERSION = manifest.version;
