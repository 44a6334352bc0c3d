// The package is a link to this repository, whose files the development server may not give out unless told.
export default { server: { fs: { allow: ["../.."] } } };
