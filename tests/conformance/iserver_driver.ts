// Uses a generated client the way a shop would, and prints what it saw. Arguments: base URL, device id, scenario.
import { initCausal, qb, RatingBox, Session } from "./client";

const [baseUrl, deviceId, scenario] = process.argv.slice(2);
const session = new Session({ deviceId, channel: "email" }, {
  headers: { "user-agent": "UA/1" }, url: "/p/1", socket: {},
} as never);
const box = () => qb().getRatingBox({ product: "iPhone" });

function seen(answer: { impression: unknown; flags: unknown; error?: { errorType?: string } }) {
  const { impression, flags, error } = answer as never as { impression: Record<string, never>; flags: unknown; error?: never };
  return {
    flags,
    error: error ? (error as { errorType: string }).errorType : null,
    button: (impression.RatingBox as { actionButton: string } | undefined)?.actionButton,
    results: (impression.Search as { results: unknown } | undefined)?.results,
    variants: session.activeVariants.map((item) => (item as { variantName: string }).variantName),
  };
}

const scenarios: Record<string, () => Promise<unknown>> = {
  async several() {
    const query = box().getNewCheckout().getSearch({ query: "shoes" });
    const first = await session.requestImpression(query, "imp-1");
    const printed = seen(first);
    (first.impression as { RatingBox: RatingBox }).RatingBox.signalRating({ stars: 4 });
    session.signalAddToCart({ value: 9.5, sku: "s1", qty: 2 });
    RatingBox.signalRating({ deviceId }, "imp-1", { stars: 5 });
    await session.requestImpression(query, "imp-2"); // from the client's cache: it signals that it was shown
    session.keepAlive();
    return printed;
  },
  async cached() {
    await session.requestCacheFill(box());
    const before = session.activeVariants.length;
    return { before, ...seen(await session.requestImpression(box(), "imp-7")) };
  },
  async wrong() {
    const query = qb().getRatingBox({ product: 7 as never }).getProductInfo();
    return seen(await session.requestImpression(query as never, "imp-1") as never);
  },
};

async function main() {
  initCausal({ baseUrl, logIServerCommErrors: false });
  console.log(JSON.stringify(await scenarios[scenario]()));
}

void main();
