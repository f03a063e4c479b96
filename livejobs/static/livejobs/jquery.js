// The page's jQuery. If the page brings none, or its CDN refuses, fails or lets us wait, then Django's own copy; the CDN's
// if the project has no admin.
import { config } from "./config.js";

const PATIENCE = 2000; // milliseconds
const EXECUTED_WITHIN = 200; // milliseconds from the end of its download

const cdn = document.getElementById("jquery");

function settled(script) {
  return new Promise((resolve) => {
    script.addEventListener("load", resolve);
    script.addEventListener("error", resolve);
  });
}

if (!window.jQuery && cdn) {
  // A download that has ended, well or not, has an entry. If it failed before this script ran, then no event tells.
  const hasEnded = performance.getEntriesByName(cdn.src).length > 0;
  const patience = hasEnded ? EXECUTED_WITHIN : PATIENCE;
  await Promise.race([settled(cdn), new Promise((resolve) => setTimeout(resolve, patience))]);
}
if (!window.jQuery) {
  const copy = document.createElement("script");
  copy.src = cdn?.dataset.fallback ?? config.jquery;
  if (!cdn && config.jqueryIntegrity)
    Object.assign(copy, { integrity: config.jqueryIntegrity, crossOrigin: "anonymous" });
  document.head.append(copy);
  await settled(copy);
}

export default window.jQuery;
