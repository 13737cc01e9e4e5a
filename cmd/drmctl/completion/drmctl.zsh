#compdef drmctl
# zsh completion of drmctl: drmctl completion zsh > "${fpath[1]}/_drmctl"
_drmctl() {
    local line
    local -a described
    for line in "${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ $line == :files ]]; then
            _files
        elif [[ -n $line ]]; then
            local name=${line%%$'\t'*} what=${line#*$'\t'}
            [[ $what == $line ]] && what=
            described+=("${name//:/\\:}${what:+:$what}")
        fi
    done
    (( ${#described} )) && _describe -V drmctl described
}
if [[ ${funcstack[1]} == _drmctl ]]; then
    _drmctl "$@"
else
    compdef _drmctl drmctl
fi
