// Loading the page again when its session is not accepted: the answer brings a session that is. Once only, or a browser
// that keeps no session would reload for ever; so the tab remembers it until a socket is live. A page whose session is
// good, and another owner's, is loaded again once more: two tabs that were loaded again at the same moment may have got
// two sessions, of which the browser keeps one.
const KEYS = { session: "celeryprogressbar.reloaded", owner: "celeryprogressbar.reloaded.owner" };

// Returns false if the page was loaded again for that reason already, or if that cannot be remembered.
export function reloadOnce(reason, unanswered) {
  try {
    if (sessionStorage.getItem(KEYS[reason])) return false;
    sessionStorage.setItem(KEYS[reason], unanswered ? "unanswered" : "answered");
  } catch (problem) {
    console.warn("This page is not loaded again, as that could not be remembered.", problem);
    return false;
  }
  location.replace(location.pathname + location.search); // a GET, even if this page answers a POST
  return true;
}

// Returns whether something was unanswered when the page was loaded again.
export function forgetReload() {
  try {
    const noted = Object.values(KEYS).map((key) => sessionStorage.getItem(key));
    for (const key of Object.values(KEYS)) sessionStorage.removeItem(key);
    return noted.includes("unanswered");
  } catch (problem) {
    console.warn("It is not known whether this page was loaded again.", problem);
    return false;
  }
}
