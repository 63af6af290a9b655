// Runs a Surfpool chain until standard input closes: node surfpool.js PACKAGE SLOT_MS
// Its first line on standard output is JSON with the URLs.
const [packageFolder, slotMs] = process.argv.slice(2);
const { Surfnet } = require(packageFolder);

const net = Surfnet.startWithConfig({ offline: true, blockProductionMode: "clock", slotTimeMs: Number(slotMs) });
console.log(JSON.stringify({ rpc: net.rpcUrl, ws: net.wsUrl }));

const stop = () => {
  try {
    net.stop();
  } finally {
    process.exit(0);
  }
};
process.on("SIGTERM", stop);
process.stdin.on("end", stop);
process.stdin.resume();
