// Reads the machine's own apt sources and keeps those that are Debian's, so that no mirror has to be named here.

/** One Debian archive as the machine's administrator configured it. */
export interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  /** Keyring files or fingerprints, as in sources.list(5); undefined: the machine's trusted keys. */
  readonly signedBy: string | undefined;
  /** `Check-Valid-Until` where it was set: snapshots of the archive need "no". */
  readonly checkValidUntil: string | undefined;
}

type Fields = ReadonlyMap<string, string>;

/** Parses the deb822 format of `*.sources`: stanzas of `Field: value` lines, continued by lines that start blank. */
export function parseDeb822(text: string): AptSource[] {
  const stanzas = text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n")
    .split(/\n[ \t]*(?:\n[ \t]*)+/);
  return stanzas.flatMap((stanza) => {
    const fields = new Map<string, string>();
    for (const line of stanza.replaceAll(/\n[ \t]+/g, " ").split("\n")) {
      const colon = line.indexOf(":");
      if (colon > 0) fields.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    }
    return debianSource(fields);
  });
}

/** Parses the one-line format of `*.list`: `deb [option=value …] uri suite component…`. */
export function parseOneLine(text: string): AptSource[] {
  const entry =
    /^\s*(?<types>deb)\s+(?:\[(?<options>[^\]]*)\]\s+)?(?<uris>\S+)\s+(?<suites>\S+)\s+(?<components>[^#]+)/;
  return text.split("\n").flatMap((line) => {
    const groups = entry.exec(line)?.groups;
    if (groups === undefined) return [];
    const fields = new Map(Object.entries(groups));
    for (const option of (groups["options"] ?? "").split(/\s+/)) {
      const [name = "", value = ""] = option.split("=", 2);
      if (name !== "") fields.set(name.toLowerCase(), value);
    }
    return debianSource(fields);
  });
}

/** The source, when it is one of Debian's own archives with component main; nothing otherwise. */
function debianSource(fields: Fields): AptSource[] {
  const words = (name: string): string[] => (fields.get(name) ?? "").split(/\s+/).filter((word) => word !== "");
  const uris = words("uris").filter((uri) => !uri.startsWith("cdrom:"));
  const suites = words("suites").filter((suite) => isDebianSuite(suite));
  const isOn = !/^(?:no|false|0|off|without|disable)$/i.test(fields.get("enabled") ?? "yes");
  if (!isOn || !words("types").includes("deb") || !words("components").includes("main")) return [];
  if (uris.length === 0 || suites.length === 0) return [];
  const signedBy = fields.get("signed-by");
  const isDebian =
    signedBy === undefined ? uris.every((uri) => isDebianPath(uri)) : /debian-archive[^/]*$/.test(signedBy);
  if (!isDebian) return [];
  return [{ uris, suites, signedBy, checkValidUntil: fields.get("check-valid-until") }];
}

function isDebianSuite(suite: string): boolean {
  const base = suite.replace(/(?:-(?:updates|security|backports|proposed-updates))|(?:\/updates)$/, "");
  return /^(?:bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)$/.test(base);
}

/** Mirrors put the archive below /debian; a cloud image lists its mirrors in a file of that name. */
function isDebianPath(uri: string): boolean {
  return /\/debian(?:-security|-debug)?(?:\.list)?\/*$/.test(uri);
}

/** The sources for other suites: of the archives only those that carry whole suites, each with `suites` for its own. */
export function sourcesOfSuites(sources: readonly AptSource[], suites: readonly string[]): AptSource[] {
  const isMainArchive = (source: AptSource): boolean => source.suites.some((suite) => /^[a-z]+$/.test(suite));
  return sources
    .filter((source) => isMainArchive(source))
    .map(({ uris, signedBy, checkValidUntil }) => ({ uris, suites, signedBy, checkValidUntil }));
}

/** The deb822 text that serves the sources for one architecture. */
export function formatSources(sources: readonly AptSource[], architecture: string): string {
  return sources
    .map((source) => {
      const lines = [
        "Types: deb",
        `URIs: ${source.uris.join(" ")}`,
        `Suites: ${source.suites.join(" ")}`,
        "Components: main",
        `Architectures: ${architecture}`,
      ];
      if (source.signedBy !== undefined) lines.push(`Signed-By: ${source.signedBy}`);
      if (source.checkValidUntil !== undefined) lines.push(`Check-Valid-Until: ${source.checkValidUntil}`);
      return `${lines.join("\n")}\n`;
    })
    .join("\n");
}
