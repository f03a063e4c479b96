// What the server says of this page: livejobs/templates/livejobs/config.html. A page without it is one of a site that
// stands at the root of its host.
const DEFAULTS = {
  owner: "",
  sockets: "/ws/",
  api: "/api/",
  csrfCookie: "csrftoken",
  csrf: "",
  jquery: "",
  jobPage: "",
  uploadMib: 20,
};

export const config = { ...DEFAULTS, now: Date.now() / 1000, ...document.getElementById("livejobs")?.dataset };
