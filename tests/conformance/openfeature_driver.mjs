// Evaluates flags with the published OpenFeature SDK and provider, and prints what it saw. Argument: base URL.
import { OpenFeature } from "@openfeature/server-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";

await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: process.argv[2] }));
const client = OpenFeature.getClient();
const context = { targetingKey: "dev-1", product: "iPhone", query: "shoes", channel: "email" };
const seen = ({ value, reason, errorCode }) => [value, reason, errorCode ?? null];

console.log(JSON.stringify({
  "on": seen(await client.getBooleanDetails("RatingBox", false, context)),
  "off": seen(await client.getBooleanDetails("NewCheckout", true, context)),
  "button": seen(await client.getStringDetails("RatingBox.actionButton", "?", context)),
  "unknown": seen(await client.getStringDetails("Nothing", "?", context)),
  "no key": seen(await client.getBooleanDetails("RatingBox", false, { product: "p" })),
}));
