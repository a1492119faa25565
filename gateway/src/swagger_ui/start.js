// Starts Swagger UI and keeps its authorisation in step with the calls the tester makes: signing up
// or in closes the padlocks; signing out, or a token that has ended, opens them. Swagger UI's own
// store is the only memory, so a reload and its Authorize dialog fit in.
"use strict";

/** The document's one security scheme. */
const SCHEME = "token";
const SIGN_IN = /\/(user|auth\/login)\/?$/;
const SIGN_OUT = /\/auth\/logout\/?$/;
/** Error codes of a token that was good once and never will be again. */
const OVER = ["token_expired", "session_revoked"];

const POSTED = /\/chat\/[^/]+\/message\/?$/;
/** The id of a message in the document's examples. It stands for the message that the tester posted last. */
const EXAMPLE_ID = "01a20ab1-49a0-708d-8bf6-055e5f5df19a";

/** The id of the message that was posted last. */
let lastPosted = "";

/** Who the last request to sign up or in was for; its answer holds only a token. */
let applicant = "";

const pathOf = (message) => new URL(message.url, location.href).pathname;

function nameIn(body) {
  try {
    const { username, email } = JSON.parse(body);
    return String(username ?? email ?? "");
  } catch {
    return ""; // The tester may send anything.
  }
}

function beforeRequest(request) {
  if (request.method === "POST" && SIGN_IN.test(pathOf(request))) {
    applicant = nameIn(request.body);
  }
  if (lastPosted) {
    request.url = request.url.replace(EXAMPLE_ID, lastPosted);
  }
  return request;
}

function afterResponse(response) {
  const { Authorization: token, code } = response.body ?? {};
  if (response.ok && typeof token === "string" && SIGN_IN.test(pathOf(response))) {
    signIn(token);
  } else if ((response.ok && SIGN_OUT.test(pathOf(response))) || OVER.includes(code)) {
    ui.authActions.logoutWithPersistOption([SCHEME]);
  }
  if (response.ok && POSTED.test(pathOf(response))) {
    lastPosted = response.headers["message-id"] ?? lastPosted;
  }
  return response;
}

// Not preauthorizeApiKey: that one is forgotten on reload.
function signIn(value) {
  const schema = ui.specSelectors.specJson().getIn(["components", "securitySchemes", SCHEME])?.toJS();
  if (schema) {
    ui.authActions.authorizeWithPersistOption({ [SCHEME]: { name: SCHEME, schema, value, user: applicant } });
  }
}

function showWho() {
  const authorised = ui.authSelectors.authorized()?.get(SCHEME);
  const user = authorised?.get("user"); // Absent when the token was typed into the dialog.
  const text = authorised ? `Signed in${user ? ` as ${user}` : ""}` : "Not signed in";
  const who = document.getElementById("who");
  if (who.textContent !== text) { // An equal text would be read out again by screen readers.
    who.textContent = text;
    who.classList.toggle("signed-in", Boolean(authorised));
  }
}

const ui = SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json",
  validatorUrl: null, // The default asks a server on the internet.
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  showCommonExtensions: true, // Shows the limits of parameters.
  persistAuthorization: true,
  requestInterceptor: beforeRequest,
  responseInterceptor: afterResponse,
});
ui.getStore().subscribe(showWho);
showWho();
