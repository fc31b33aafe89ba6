// A ZIP archive of files, without compression, since pictures are compressed already. The archive refers to the files
// and is not a copy of them, and the files are read one piece at a time.

const TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  return value;
});
const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];
const UTF8 = 0x800;
const MOST = 0xffffffff;

async function checksum(file, signal) {
  let crc = ~0;
  for await (const piece of file.stream()) {
    signal?.throwIfAborted();
    for (const byte of piece) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  }
  return ~crc >>> 0;
}

/** Write numbers of 2 or 4 bytes: record([4, 1], [2, 0]). */
function record(...numbers) {
  const view = new DataView(new ArrayBuffer(numbers.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of numbers) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view.buffer;
}

/** Make names unique: a second "a.png" becomes "a (2).png". */
export function uniqueNames(names) {
  const taken = new Set();
  return names.map((name) => {
    const dot = name.lastIndexOf(".") > 0 ? name.lastIndexOf(".") : name.length;
    let unique = name;
    for (let n = 2; taken.has(unique); n++) unique = `${name.slice(0, dot)} (${n})${name.slice(dot)}`;
    taken.add(unique);
    return unique;
  });
}

/** Return a ZIP archive of files as a blob. */
export async function zip({ files }, { signal, progress } = {}) {
  const names = uniqueNames(files.map(({ name }) => name)).map((name) => new TextEncoder().encode(name));
  const [parts, directory] = [[], []];
  let [offset, length] = [0, 0];
  for (const [at, file] of files.entries()) {
    const name = names[at];
    // Version 2.0, names in UTF-8, stored, and no time.
    const fields = [[2, 20], [2, UTF8], [2, 0], [2, 0], [2, 0x21], [4, await checksum(file, signal)], [4, file.size], [4, file.size], [2, name.length], [2, 0]];
    parts.push(record([4, LOCAL], ...fields), name, file);
    directory.push(record([4, CENTRAL], [2, 20], ...fields, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), name);
    offset += 30 + name.length + file.size;
    length += 46 + name.length;
    if (offset + length > MOST) throw new Error("the pictures are too large for one ZIP file; download them one by one");
    progress?.(at + 1, files.length);
  }
  const end = record([4, END], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
