import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSources, parseDeb822, parseOneLine, sourcesOfSuites } from "./apt-sources.ts";

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

test("Debian's stanzas are kept with their suites, keys and validity, and source packages are not asked for", () => {
  const sources = parseDeb822(`# a comment
Types: deb deb-src
URIs: https://mirror.example/debian/
# a comment inside
Suites: bookworm
  bookworm-updates
Components: main non-free-firmware
Check-Valid-Until: no
Signed-By: ${keyring}

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: ${keyring}
`);
  assert.deepEqual(sources, [
    {
      uris: ["https://mirror.example/debian/"],
      suites: ["bookworm", "bookworm-updates"],
      signedBy: keyring,
      checkValidUntil: "no",
    },
    {
      uris: ["https://mirror.example/debian-security"],
      suites: ["bookworm-security"],
      signedBy: keyring,
      checkValidUntil: undefined,
    },
  ]);
});

test("archives that are not Debian's, are switched off, hold only sources or sit on a disc are left out", () => {
  const stanza = (fields: Record<string, string>): string =>
    Object.entries({
      Types: "deb",
      URIs: "https://mirror.example/debian",
      Suites: "trixie",
      Components: "main",
      ...fields,
    })
      .map(([name, value]) => `${name}: ${value}\n`)
      .join("");
  assert.equal(parseDeb822(stanza({})).length, 1);
  for (const other of [
    { "Signed-By": "/usr/share/keyrings/vendor.gpg" },
    { URIs: "https://packages.example/apt" },
    { Suites: "vendor-bookworm" },
    { Suites: "nodistro" },
    { Components: "stable" },
    { Enabled: "no" },
    { Types: "deb-src" },
    { URIs: "cdrom:[Debian GNU/Linux 12]/" },
  ]) {
    assert.deepEqual(parseDeb822(stanza(other)), [], JSON.stringify(other));
  }
});

test("the one-line format is read with and without options", () => {
  const sources = parseOneLine(`
# deb https://mirror.example/debian sid main
deb https://mirror.example/debian bookworm main contrib # our own
deb [arch=amd64 signed-by=${keyring}] https://mirror.example/anything bookworm/updates main
deb-src https://mirror.example/debian bookworm main
deb https://packages.example/apt cloud-sdk-bookworm main
`);
  assert.deepEqual(
    sources.map(({ uris, suites, signedBy }) => [uris[0], suites[0], signedBy]),
    [
      ["https://mirror.example/debian", "bookworm", undefined],
      ["https://mirror.example/anything", "bookworm/updates", keyring],
    ],
  );
});

test("a cloud image's list of mirrors counts as Debian's archive", () => {
  const [source] = parseDeb822(
    "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie trixie-backports\nComponents: main\n",
  );
  assert.deepEqual(source?.suites, ["trixie", "trixie-backports"]);
});

test("what is written for an architecture reads back the same, and other suites are asked of the main archive only", () => {
  const sources = parseDeb822(`Types: deb
URIs: https://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: ${keyring}

Types: deb
URIs: https://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By: ${keyring}
`);
  const text = formatSources(sources, "i386");
  assert.deepEqual(parseDeb822(text), sources);
  assert.match(text, /^Architectures: i386$/m);
  const [main, ...others] = sourcesOfSuites(sources, ["forky", "forky-backports"]);
  assert.deepEqual(main, { ...sources[0], suites: ["forky", "forky-backports"] });
  assert.deepEqual(others, []);
});
